"""The worker's web endpoints, on Faust's own server: the page for people, the pages for machines, and, only with
STREAMS_ADMIN_TOKEN, the few actions that change something.

Everything else only reads, and is made when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from time import monotonic
from typing import Any, Final, cast
from urllib.parse import urlsplit

import faust
from aiohttp import web as aiohttp_web
from faust.web import Request, Response, View

from streams.administration import ActionRefusedError, Administration
from streams.dashboard.history import History
from streams.dashboard.page import asset, render_page
from streams.health import Situation, Verdict, liveness, readiness
from streams.metrics import Metrics
from streams.status import ConsumerView, Status, lag_that_moves

OK = 200
UNAVAILABLE = 503
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer, the refusals among them."""
MAX_BODY_BYTES: Final = 1024
BODY_TIMEOUT_SECONDS: Final = 10.0
MAX_NAMES: Final = 10
"""Of conditions, in an answer about health."""

Act = Callable[[bytes, str], dict[str, Any]]


def situation_of(app: faust.App, status: Status) -> Situation:
    """What the health rules look at, read from the running worker."""
    now = monotonic()
    consumer, conditions = status.consumer, status.stats.conditions
    return Situation(
        rebalancing_seconds=status.rebalancing_seconds,
        lag_of_moving_partitions=lag_that_moves(status.partitions(now)),
        behind_seconds=None if status.behind_since is None else now - status.behind_since,
        since_acknowledged_seconds=now - consumer.last_acknowledged if consumer else 0.0,
        uncommitted_seconds=_uncommitted_seconds(consumer, now),
        since_brokers_answered_seconds=(
            None if consumer is None or consumer.brokers_answered is None else now - consumer.brokers_answered
        ),
        refused_seconds=0.0 if consumer is None or consumer.refused_since is None else now - consumer.refused_since,
        sink_failing=status.stats.sink_failing,
        assigned=status.assigned,
        stopping=bool(app.should_stop),
        blocking=tuple(one.sentence(now) for one in conditions.most_serious_first() if one.blocks_readiness),
    )


def _uncommitted_seconds(consumer: ConsumerView | None, now: float) -> float | None:
    """Since durable offsets wait, or since the last commit, whichever is later: any commit is a sign of life."""
    if consumer is None or consumer.commit_due_since is None:
        return None
    return now - max(consumer.commit_due_since, consumer.last_committed or 0.0)


def add_pages(app: faust.App, status: Status, metrics: Metrics, history: History) -> None:
    """Register the page, its JSON siblings, health and metrics, and the actions where they are allowed."""
    server = cast(aiohttp_web.Application, app.web.web_app)  # type: ignore[attr-defined] # only Faust's driver has it
    server.on_response_prepare.append(_secure)
    _add_dashboard(app, status, history)

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
    if status.administration is not None:
        _add_actions(app, status.administration)


async def _secure(request: aiohttp_web.Request, response: aiohttp_web.StreamResponse) -> None:
    headers: MutableMapping[str, str] = response.headers
    headers.update(HEADERS)
    headers.pop("Server", None)  # which versions run here is nobody's business


def _add_dashboard(app: faust.App, status: Status, history: History) -> None:
    @app.page("/", name="dashboard")
    async def dashboard(view: View, request: Request) -> Response:
        """The state of this worker for people."""
        return view.html(render_page(status.document(), history))

    @app.page("/dashboard/history", name="history")
    async def last_minutes(view: View, request: Request) -> Response:
        """What the charts are drawn from, as JSON."""
        return view.json(history.document())

    @app.page("/dashboard/{name}", name="asset")
    async def page_asset(view: View, request: Request, name: str) -> Response:
        """The page's style sheet, script and icon."""
        found = asset(name)
        if found is None:
            return view.error(404, "there is no such page")
        return view.bytes(found.content, content_type=found.content_type)


def _add_health_page(app: faust.App, status: Status, path: str, rule: Callable[[Situation], Verdict]) -> None:
    @app.page(path, name=path.strip("/").replace("/", "-"))
    async def health(view: View, request: Request) -> Response:
        """200 when the rule holds, else 503 and the reason; either way with the names of the active conditions."""
        verdict = rule(situation_of(app, status))
        body: dict[str, Any] = {
            "ok": verdict.ok,
            "reason": verdict.reason,
            "state": status.state(),
            "conditions": _some([one.name for one in status.stats.conditions.most_serious_first()]),
        }
        return view.json(body, status=OK if verdict.ok else UNAVAILABLE)


def _some(names: list[str]) -> list[str]:
    """Not hundreds of partitions; `/stats` has them all."""
    more = len(names) - MAX_NAMES
    return names if more <= 0 else [*names[:MAX_NAMES], f"and {more} more"]


# --- actions ----------------------------------------------------------------------------------------------------------


def _add_actions(app: faust.App, administration: Administration) -> None:
    actions: dict[str, Act] = {
        "/admin/pause": administration.pause,
        "/admin/resume": administration.resume,
        "/admin/max-in-flight": administration.change_max_in_flight,
        "/admin/log-level": administration.change_log_level,
    }
    for path, act in actions.items():
        _add_action(app, administration, path, act)


def _add_action(app: faust.App, administration: Administration, path: str, act: Act) -> None:
    class Action(View):
        """POST alone; whoever may not is told so before anything of the body is read."""

        async def post(self, request: Request, **kwargs: Any) -> Response:
            asked = cast(aiohttp_web.Request, request)
            peer = asked.remote or "unknown"
            try:
                _check(asked, administration)
                return self.json(act(await _body(asked), peer))
            except ActionRefusedError as refusal:
                administration.note_refusal(peer, path, str(refusal))
                headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
                return self.error(refusal.status, str(refusal), headers)

    app.page(path, name=path.strip("/").replace("/", "-"))(Action)


def _check(request: aiohttp_web.Request, administration: Administration) -> None:
    """Who asks, and from where: a page of another site may not, even if somebody gave it the token."""
    if not administration.allows(request.headers.get("Authorization")):
        raise ActionRefusedError(401, "send the header 'Authorization: Bearer ' and the token in STREAMS_ADMIN_TOKEN")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise ActionRefusedError(403, "a page of another site may not change anything here")
    if request.content_type != "application/json":
        raise ActionRefusedError(415, "send JSON, with the header 'Content-Type: application/json'")
    if request.content_length is None or request.content_length > MAX_BODY_BYTES:
        raise ActionRefusedError(413, f"send a Content-Length, of at most {MAX_BODY_BYTES} bytes")


async def _body(request: aiohttp_web.Request) -> bytes:
    try:
        return await asyncio.wait_for(request.read(), BODY_TIMEOUT_SECONDS)
    except TimeoutError as error:
        raise ActionRefusedError(408, "the body did not come in time") from error
