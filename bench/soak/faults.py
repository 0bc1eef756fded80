"""What each fault does to the site; it has ended when its function returns."""

from __future__ import annotations

from collections.abc import Callable

from bench.soak.plan import Fault
from bench.soak.site import Site
from tests.services.s3_faults import RESET, SLOW_DOWN, Delay, Hang, Reset, Rule, S3Request, always, in_turn
from tests.services.s3_faults import Fault as S3Fault
from tests.services.worker import WorkerProcess

_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
_HANGS_SECONDS = 600.0
_SLOW_SECONDS = 2.0

Pause = Callable[[float], None]


def inject(site: Site, fault: Fault, pause: Pause) -> None:
    """Do it; `pause` waits so many seconds and looks after the rest of the site meanwhile."""
    _ACTIONS[fault.name](site, fault.seconds, pause)


def _kill(site: Site, seconds: float, pause: Pause) -> None:
    worker = _restarted(site)
    worker.kill()
    pause(seconds)
    worker.start()
    worker.wait_ready(_READY_SECONDS)


def _terminate(site: Site, seconds: float, pause: Pause) -> None:
    worker = _restarted(site)
    worker.terminate()
    worker.wait(_STOP_SECONDS)
    worker.start()
    worker.wait_ready(_READY_SECONDS)


def _more(site: Site, seconds: float, pause: Pause) -> None:
    if site.spare is None:
        site.spare = site.worker("spare")
    if not site.spare.running:
        site.spare.start()
    site.spare.wait_ready(_READY_SECONDS)


def _less(site: Site, seconds: float, pause: Pause) -> None:
    if site.spare is not None and site.spare.running:
        site.spare.terminate()
        site.spare.wait(_STOP_SECONDS)


def _freeze_worker(site: Site, seconds: float, pause: Pause) -> None:
    worker = _restarted(site)
    _for_a_while(worker.freeze, worker.thaw, seconds, pause)


def _freeze_coordinator(site: Site, seconds: float, pause: Pause) -> None:
    broker = site.coordinator()
    _for_a_while(broker.freeze, broker.thaw, seconds, pause)


def _stop_broker(site: Site, seconds: float, pause: Pause) -> None:
    coordinator = site.coordinator()
    broker = next(node for node in site.kafka.nodes if node is not coordinator)
    _for_a_while(broker.stop, broker.start, seconds, pause)


def _kill_coordinator(site: Site, seconds: float, pause: Pause) -> None:
    broker = site.coordinator()
    _for_a_while(broker.kill, broker.start, seconds, pause)


def _kill_brokers(site: Site, seconds: float, pause: Pause) -> None:
    _for_a_while(site.kafka.kill, site.kafka.start, seconds, pause)


def _delete_topic(site: Site, seconds: float, pause: Pause) -> None:
    site.short_lived.delete()
    pause(seconds)
    site.short_lived.begin()


def _recreate_topic(site: Site, seconds: float, pause: Pause) -> None:
    site.short_lived.delete()
    site.short_lived.begin()


def _kill_s3(site: Site, seconds: float, pause: Pause) -> None:
    _for_a_while(site.s3.kill, site.s3.start, seconds, pause)


def _s3_away(site: Site, seconds: float, pause: Pause) -> None:
    _for_a_while(site.proxy.disconnect, site.proxy.connect, seconds, pause)


def _for_a_while(take_away: Callable[[], None], bring_back: Callable[[], None], seconds: float, pause: Pause) -> None:
    """Away for so many seconds, and back again whatever happens meanwhile."""
    take_away()
    try:
        pause(seconds)
    finally:
        bring_back()


def _rule(rule: Rule) -> Callable[[Site, float, Pause], None]:
    def hold(site: Site, seconds: float, pause: Pause) -> None:
        site.proxy.rule = rule
        try:
            pause(seconds)
        finally:
            site.proxy.rule = None

    return hold


def _storm(request: S3Request) -> S3Fault | None:
    return SLOW_DOWN if request.method == "PUT" and request.number % 5 else None


def _restarted(site: Site) -> WorkerProcess:
    assert site.restarted is not None
    return site.restarted


_ACTIONS: dict[str, Callable[[Site, float, Pause], None]] = {
    "kill": _kill,
    "term": _terminate,
    "more": _more,
    "less": _less,
    "broker-freeze": _freeze_coordinator,
    "broker-stop": _stop_broker,
    "brokers-kill": _kill_brokers,
    "coordinator-kill": _kill_coordinator,
    "topic-delete": _delete_topic,
    "topic-recreate": _recreate_topic,
    "worker-freeze": _freeze_worker,
    "s3-503": _rule(_storm),
    "s3-hang": _rule(always(Hang(_HANGS_SECONDS))),
    "s3-reset": _rule(in_turn(2, [RESET, Reset(after_write=True)])),
    "s3-away": _s3_away,
    "s3-slow": _rule(always(Delay(_SLOW_SECONDS))),
    "s3-kill": _kill_s3,
}
