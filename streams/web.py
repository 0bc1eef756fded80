"""The worker's web endpoints, on Faust's own server; all of them only read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import faust
from faust.web import Request, Response, View

from streams.health import Condition, Verdict, liveness, readiness
from streams.metrics import Metrics
from streams.status import Status

OK = 200
UNAVAILABLE = 503


def condition_of(app: faust.App, status: Status) -> Condition:
    """What the health rules look at, read from the running worker."""
    now = monotonic()
    consumer = status.consumer
    moving = [partition for partition in status.partitions(now) if partition.held is None]
    lags = [partition.lag for partition in moving]
    return Condition(
        rebalancing_seconds=status.rebalancing_seconds,
        lag_of_moving_partitions=None if any(lag is None for lag in lags) else sum(lag or 0 for lag in lags),
        since_acknowledged_seconds=now - consumer.last_acknowledged if consumer else 0.0,
        sink_failing=status.stats.sink_failing,
        assigned=status.assigned,
        stopping=bool(app.should_stop),
    )


def add_pages(app: faust.App, status: Status, metrics: Metrics) -> None:
    """Register `/stats`, `/health/live`, `/health/ready` and `/metrics`."""

    @app.page("/stats", name="stats")
    async def stats(view: View, request: Request) -> Response:
        """The whole state of this worker, as JSON."""
        return view.json(status.document())

    @app.page("/metrics", name="metrics")
    async def prometheus(view: View, request: Request) -> Response:
        """The same for Prometheus."""
        return view.bytes(metrics.render(), content_type="text/plain")

    _add_health_page(app, status, "/health/live", liveness)
    _add_health_page(app, status, "/health/ready", readiness)


def _add_health_page(app: faust.App, status: Status, path: str, rule: Callable[[Condition], Verdict]) -> None:
    @app.page(path, name=path.strip("/").replace("/", "-"))
    async def health(view: View, request: Request) -> Response:
        """200 when the rule holds, else 503 and the reason."""
        verdict = rule(condition_of(app, status))
        body: dict[str, Any] = {"ok": verdict.ok, "reason": verdict.reason, "state": status.state()}
        return view.json(body, status=OK if verdict.ok else UNAVAILABLE)
