"""What can stop a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """A run cannot start or its numbers would be wrong; the message says what to do."""
