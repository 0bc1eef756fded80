"""The worker, alive for two seconds only after brokers have begun to refuse it."""

from __future__ import annotations

from streams import app, health

health.REFUSED_LIMIT_SECONDS = 2.0

__all__ = ["app"]
