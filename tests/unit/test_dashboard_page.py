"""What the page says of a worker, without a browser: escaping, notices, and what stays bounded."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streams.dashboard.history import History
from streams.dashboard.notices import notices
from streams.dashboard.page import ASSETS, PARTITIONS_SHOWN, asset, render_page
from streams.errors import RecordRejectedError
from streams.record import Record
from streams.stats import KAFKA, Kind
from tests.unit.status_of_nobody import StatusOfNobody, partition

EVIL = "<script>alert('x')</script>\"' onload=x"


def rendered(status: StatusOfNobody) -> str:
    """The page of this status."""
    return render_page(status.document(), History(status))


def said(status: StatusOfNobody) -> list[tuple[str, str]]:
    """The notices of this status, by level and first words."""
    return [(notice.level, notice.text) for notice in notices(status.document())]


def test_text_from_elsewhere_is_never_markup() -> None:
    """Topics, reasons and messages come from events and servers; whatever they hold is shown as text."""
    status = StatusOfNobody()
    oldest = {"offset": 1, "age_seconds": 3.0, "reason": EVIL, "detail": EVIL, "attempts": 2}
    held = {"offset": 1, "reason": EVIL, "detail": EVIL}
    status.shown = [partition(topic=EVIL, oldest=oldest, held=held)]
    record = Record(EVIL, 0, 1, None, None, None, b"v")
    status.stats.retrying(record, EVIL, EVIL, 1, remedy=EVIL)
    status.stats.held(record, RecordRejectedError(EVIL, EVIL))
    status.stats.dead_lettered(EVIL, EVIL, EVIL, 0, 1)
    status.stats.written(EVIL, 0.1, 1)
    status.stats.conditions.begin(Kind.TOPIC_GONE, EVIL, EVIL, subject=EVIL)
    page = rendered(status)
    assert page.count("&lt;script&gt;") > 10
    assert ['<script src="/dashboard/dashboard.js" defer>'] == re.findall("<script[^>]*>", page)


def test_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    """The content security policy would refuse it: no style, no handler, no address of another host."""
    status = StatusOfNobody()
    status.shown = [partition()]
    page = rendered(status)
    assert [] == re.findall(r"<style|\sstyle=|\son\w+=|javascript:|https?://", page)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    own = {"/dashboard/icon.svg", "/dashboard/dashboard.css", "/dashboard/dashboard.js"}
    assert own <= set(loaded) <= own | {"/stats", "/metrics", "/health/live", "/health/ready"}


@pytest.mark.parametrize("name", ASSETS)
def test_assets_load_nothing_from_elsewhere(name: str) -> None:
    """Nothing that the page loads names another host (an XML namespace is none), and each is small."""
    found = asset(name)
    assert found is not None
    addresses = set(re.findall(rb"(?:https?:)?//[\w.]+[^\s\"']*", found.content)) - {b"http://www.w3.org/2000/svg"}
    assert (set(), []) == (addresses, re.findall(rb"@import|url\(", found.content))
    assert len(found.content) < 20_000


@pytest.mark.parametrize("name", ["", "page.py", "../page.py", "assets", "DASHBOARD.CSS"])
def test_only_the_assets_are_served(name: str) -> None:
    """No path reaches another file of the package."""
    assert asset(name) is None


def test_many_partitions_show_those_that_lag_most() -> None:
    """The page stays readable, and says how many there are."""
    status = StatusOfNobody()
    status.shown = [partition(number, end=5 + number) for number in range(PARTITIONS_SHOWN + 50)]
    page = rendered(status)
    assert f"orders/{PARTITIONS_SHOWN + 49}" in page
    assert "orders/0<" not in page
    assert f"The {PARTITIONS_SHOWN} of {PARTITIONS_SHOWN + 50} partitions that lag most" in page
    status.shown[0].end_age_seconds = None
    assert "orders/0<" in rendered(status), "nobody knows how much it lags"


def test_all_is_well() -> None:
    """No notice, and the words for it."""
    status = StatusOfNobody()
    status.shown = [partition()]
    assert [] == said(status)
    page = rendered(status)
    assert "Nothing waits: every event that was taken is durable." in page
    assert "None since the start." in page


def test_unknown_figures_are_called_unknown() -> None:
    """What nobody has measured is not shown as nothing."""
    status = StatusOfNobody()
    status.shown = [partition(committed=None, time_to_loss_seconds=None)]
    assert "the retention is not known" in rendered(status)
    status.shown = [partition(end=None), partition(1, end=12)]
    page = rendered(status)
    assert '<td class="n" data-label="Lag">unknown</td>' in page
    assert "of 1 of 2 partitions; of the others 7 events" in page


@pytest.mark.parametrize("kind", sorted(KAFKA))
def test_page_is_never_calm_while_kafka_is_not_as_it_should_be(kind: Kind) -> None:
    """The last lag that was known says nothing of what Kafka holds now."""
    status = StatusOfNobody()
    status.shown = [partition()]
    assert "nothing is at risk" in rendered(status)
    status.stats.conditions.begin(kind, "It is wrong.", "Act.", subject="orders")
    page = rendered(status)
    assert "nothing is at risk" not in page
    assert "it is not known what Kafka has" in page


@pytest.mark.parametrize("fields", [{"end": None}, {"end_age_seconds": 31.0}, {"watermark": None}])
def test_page_is_never_calm_while_lag_is_unknown(fields: dict[str, Any]) -> None:
    """Neither above nor in the row of the partition."""
    status = StatusOfNobody()
    status.shown = [partition(**fields)]
    page = rendered(status)
    assert "of 1 of 1 partitions</span>" in page, "there are no others to speak of"
    assert "nothing is at risk" not in page
    assert '<td class="n" data-label="Time to loss">unknown</td>' in page


def test_conditions_stand_above_everything_else() -> None:
    """With since when, what it means and what to do; the most serious first."""
    status = StatusOfNobody()
    status.shown = [partition()]
    conditions = status.stats.conditions
    conditions.begin(Kind.NO_LEADER, "No leader.", "Nothing: brokers choose one.", subject="orders/0")
    down = conditions.begin(Kind.BROKERS_DOWN, "No broker answers.", "Look at the network.", blocks_readiness=True)
    down.since -= 185
    page = rendered(status)
    places = [
        page.index(words)
        for words in (
            "<strong>kafka_unreachable</strong>",
            "for 3 min 5 s, since",
            "not ready meanwhile",
            "No broker answers.",
            "Look at the network.",
            "<strong>partition_without_leader orders/0</strong>",
            'id="now"',
        )
    ]
    assert sorted(places) == places
    assert ["notice bad", "notice warning"] == re.findall(r'<li class="([^"]+)"', page)
    assert '<span class="state state-disconnected">disconnected</span>' in page


@pytest.mark.parametrize("kind", [Kind.BROKERS_DOWN, Kind.NOT_JOINED])
def test_worker_without_its_group_is_not_called_a_spare_one(kind: Kind) -> None:
    """It takes nothing over."""
    status = StatusOfNobody()
    status.shown = []
    status.stats.conditions.begin(kind, "Wrong.", "Act.")
    assert [] == said(status)


def test_notices_say_what_somebody_must_know_first() -> None:
    """The worst comes first: losses and holds before what is only going on."""
    status = StatusOfNobody()
    status.shown = [
        partition(0, time_to_loss_seconds=3600.0),
        partition(1, held={"offset": 1, "reason": "too_large", "detail": "x"}),
    ]
    status.stats.lost("orders", 7)
    status.stats.ledger_holes = 2
    told = said(status)
    assert ["bad", "bad", "bad", "bad"] == [level for level, _ in told]
    words = " ".join(text for _, text in told)
    for part in ("7 events left", "orders/0 in 1 h 0 min", "Held", "orders/1", "2 ranges"):
        assert part in words


def test_spare_worker_says_so() -> None:
    """A page without partitions is no fault."""
    assert "A spare worker" in said(StatusOfNobody())[0][1].replace("a spare", "A spare")


def test_history_keeps_a_quarter_of_an_hour() -> None:
    """Samples are five seconds apart, hold what happened in between, and the oldest make room."""
    status = StatusOfNobody()
    history = History(status)
    for second in range(2000):
        if second == 1998:
            status.stats.written("orders", 0.049, 70)
        history.tick(float(second))
    assert 180 == len(history.samples)
    document = history.document()
    assert 180 == len(document["events_per_second"])
    assert (0.0, None) == (document["events_per_second"][0], document["p50_seconds"][0])
    for _ in range(5):
        second += 1
        history.tick(float(second))
    latest = history.samples[-1]
    assert (0.2, 14.0, 0.05, 0) == (latest.events_per_second, latest.bytes_per_second, latest.p50_seconds, latest.lag)
