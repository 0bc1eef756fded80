"""The one way in which the demonstration ends early."""

from __future__ import annotations


class DemoError(Exception):
    """Something did not happen as it must; the message says what, for the person at the terminal."""
