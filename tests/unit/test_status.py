"""What the pages and the health rules take from the status."""

from __future__ import annotations

import json
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from streams.health import Situation
from streams.metrics import Metrics
from streams.record import Record, TopicPartition
from streams.stats import Kind
from streams.web import _some, situation_of
from tests.services.install import ROOT
from tests.unit.status_of_nobody import ConsumerOfNobody, StatusOfNobody, partition, status_of

ORDERS, PAYMENTS = TopicPartition("orders", 0), TopicPartition("payments", 0)


def situation(status: StatusOfNobody) -> Situation:
    """What the health rules see."""
    return situation_of(cast(Any, SimpleNamespace(should_stop=False)), status)


def moving_lag(status: StatusOfNobody) -> int | None:
    """What liveness sees."""
    return situation(status).lag_of_moving_partitions


def test_paused_topic_is_no_stall() -> None:
    """What waits on purpose counts for nothing; what was taken before the pause is still to be finished."""
    status = StatusOfNobody()
    status.shown = [partition(0, end=1005, paused=True), partition(1, end=1005, pending=3, paused=True), partition(2)]
    assert 3 == moving_lag(status)
    status.shown = [partition(0, end=None, paused=True)]
    assert 0 == moving_lag(status)


def test_moving_topic_beside_a_paused_one_counts() -> None:
    """A stall of the other topic is still seen."""
    status = StatusOfNobody()
    status.shown = [partition(0, end=1005, paused=True), partition(0, "payments", end=12)]
    assert 7 == moving_lag(status)


@pytest.mark.parametrize(("seconds", "at_risk"), [(None, None), (float("inf"), False), (12.0, True), (0.0, True)])
def test_nothing_at_risk_differs_from_unknown(seconds: float | None, at_risk: bool | None) -> None:
    """JSON has no infinity, so a field of its own says which null it is."""
    status = StatusOfNobody()
    status.shown = [partition(time_to_loss_seconds=seconds)]
    (shown,) = status.document()["partitions"]
    assert at_risk is shown["at_risk"]
    assert (seconds if at_risk else None) == shown["time_to_loss_seconds"]


def test_last_rebalance_is_when_it_was_counted() -> None:
    """Seen at the next tick, and kept until the next rebalance."""
    status = StatusOfNobody()
    status.tick(1.0)
    assert status.document()["last_rebalance_seconds_ago"] is None
    status.stats.rebalances += 1
    status.tick(2.0)
    status.tick(3.0)
    assert 2.0 == status.last_rebalance


# --- what is not known is never a number --------------------------------------------------------------------------


def samples(status: StatusOfNobody) -> dict[str, list[float]]:
    """The values of `/metrics`, by name."""
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(Metrics(status).render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.value)
    return found


@pytest.mark.parametrize(
    ("known", "lag"),
    [
        ({"end": 9}, 4),
        ({"end": 9, "told_seconds_ago": 29.0}, 4),
        ({"end": 9, "told_seconds_ago": 31.0}, None),
        ({"end": 5, "told_seconds_ago": 31.0}, None),
        ({"end": None}, None),
        ({"end": 9, "position": None}, None),
        ({"end": 0, "position": None}, None),
        ({"end": None, "position": None}, None),
        ({"end": 3}, 0),
    ],
)
def test_lag_is_a_number_only_where_it_is_known(known: dict[str, Any], lag: int | None) -> None:
    """An end that is old or was never told, or a partition that has not begun: unknown, also in the sum."""
    consumer = ConsumerOfNobody()
    consumer.assign(ORDERS, **known)
    consumer.assign(PAYMENTS, end=7)
    status = status_of(consumer)
    document = status.document()
    orders, payments = document["partitions"]
    assert (lag, 2) == (orders["lag"], payments["lag"])
    unknown = int(lag is None)
    assert (None if unknown else lag + 2 if lag is not None else None) == document["lag"]
    assert ((lag or 0) + 2, unknown) == (document["lag_known"], document["lag_unknown_partitions"])
    assert f"lag {'unknown' if unknown else document['lag']}," in status.summary()
    shown = samples(status)
    assert 2 - unknown == len(shown["streams_partition_lag_events"])
    assert [unknown] == shown["streams_lag_unknown_partitions"]


def test_end_that_is_old_is_no_sample() -> None:
    """A line of Grafana that stays level would say that no events arrive."""
    consumer = ConsumerOfNobody()
    consumer.assign(ORDERS, told_seconds_ago=31.0)
    shown = samples(status_of(consumer))
    assert ("streams_partition_end_offset" in shown, [5.0]) == (False, shown["streams_partition_position_offset"])


@pytest.mark.parametrize(("kind", "lag"), [(None, 0), (Kind.NOT_JOINED, None), (Kind.BROKERS_DOWN, None)])
def test_worker_without_partitions_lags_behind_nothing_only_in_its_group(kind: Kind | None, lag: int | None) -> None:
    """A spare worker has no lag; one that has lost its group does not know."""
    status = status_of(ConsumerOfNobody())
    if kind is not None:
        status.stats.conditions.begin(kind, "Wrong.", "Act.")
    assert lag == status.document()["lag"]
    status.assigned = False
    assert status.document()["lag"] is None, "before the group has answered nobody knows"


def test_old_end_still_shows_what_is_at_risk_and_never_that_nothing_is() -> None:
    """Events that were there before Kafka went silent are still to be written."""
    consumer = ConsumerOfNobody()
    consumer.assign(ORDERS, end=9, told_seconds_ago=31.0)
    consumer.assign(PAYMENTS, end=5, told_seconds_ago=31.0)
    status = status_of(consumer)
    asked: dict[TopicPartition, int | None] = {}

    def seconds_to_loss(tp: TopicPartition, *, end: int | None, **known: Any) -> float | None:
        asked[tp] = end
        return None

    status.retention.seconds_to_loss = seconds_to_loss  # type: ignore[method-assign] # records the question
    status.partitions(monotonic())
    assert {ORDERS: 9, PAYMENTS: None} == asked


def test_tick_feeds_the_retention() -> None:
    """Only ends that are fresh: an old one would say that the partition does not grow."""
    consumer = ConsumerOfNobody()
    consumer.assign(ORDERS)
    consumer.assign(PAYMENTS, told_seconds_ago=31.0)
    status = status_of(consumer)
    now = monotonic()
    status.tick(now)
    rates = [status.retention.events_per_second(tp, 105, now + 10) for tp in (ORDERS, PAYMENTS)]
    assert [pytest.approx(10.0), None] == rates


# --- states and health --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assigned", "conditions", "rebalancing", "failing", "state"),
    [
        (True, (), False, False, "running"),
        (True, (), False, True, "holding"),
        (True, (), True, True, "rebalancing"),
        (True, (Kind.NOT_JOINED,), True, True, "disconnected"),
        (True, (Kind.BROKERS_DOWN,), False, True, "disconnected"),
        (True, (Kind.NO_LEADER,), False, False, "running"),
        (False, (), False, False, "starting"),
        (False, (Kind.NOT_JOINED,), True, False, "starting"),
        (False, (Kind.BROKERS_DOWN,), False, False, "disconnected"),
    ],
)
def test_state(assigned: bool, conditions: tuple[Kind, ...], rebalancing: bool, failing: bool, state: str) -> None:
    """One word, the most serious that holds."""
    consumer = ConsumerOfNobody()
    consumer.rebalancing_since = monotonic() - 1 if rebalancing else None
    status = status_of(consumer)
    status.assigned = assigned
    for kind in conditions:
        status.stats.conditions.begin(kind, "Wrong.", "Act.")
    if failing:
        status.stats.retrying(Record("orders", 0, 1, None, None, None, b""), "connection", "refused", 1)
    assert state == status.state()


@pytest.mark.parametrize("kind", [Kind.POSITION_UNKNOWN, Kind.NO_LEADER, Kind.COORDINATOR_AWAY, Kind.TOPIC_RECREATED])
def test_worker_none_of_whose_partitions_can_be_begun_holds(kind: Kind) -> None:
    """Not one with others, nor a spare."""
    consumer = ConsumerOfNobody()
    status = status_of(consumer)
    status.stats.conditions.begin(kind, "Wrong.", "Act.")
    states = [status.state()]
    consumer.assign(ORDERS, position=None, end=None)
    states.append(status.state())
    consumer.assign(PAYMENTS)
    states.append(status.state())
    assert ["running", "holding", "running"] == states


def test_stall_is_measured_from_when_there_was_something_to_do() -> None:
    """An event that comes after an hour of quiet is not an hour late; an unknown lag begins anew."""
    consumer = ConsumerOfNobody()
    status = status_of(consumer)
    consumer.last_acknowledged = monotonic() - 3600
    consumer.assign(ORDERS)
    status.tick(monotonic() - 200)
    assert situation(status).behind_seconds is None
    consumer.assign(ORDERS, end=6)
    status.tick(monotonic() - 100)
    assert situation(status).behind_seconds == pytest.approx(100, abs=1)
    consumer.assign(ORDERS, end=6, told_seconds_ago=31)
    status.tick(monotonic())
    assert situation(status).behind_seconds is None


@pytest.mark.parametrize(
    ("due_for", "committed_ago", "uncommitted"),
    [(None, None, None), (None, 400, None), (400, None, 400), (400, 10, 10), (10, 400, 10)],
)
def test_any_commit_is_a_sign_of_life(
    due_for: float | None, committed_ago: float | None, uncommitted: int | None
) -> None:
    """A topic whose commits are refused does not make a zombie of a worker that commits the others."""
    consumer = ConsumerOfNobody()
    consumer.commit_due_since = None if due_for is None else monotonic() - due_for
    consumer.last_committed = None if committed_ago is None else monotonic() - committed_ago
    seconds = situation(status_of(consumer)).uncommitted_seconds
    assert uncommitted == (None if seconds is None else round(seconds))


def test_blocking_conditions_are_told_with_their_words() -> None:
    """Those that do not block are no reason."""
    status = status_of(ConsumerOfNobody())
    status.stats.conditions.begin(Kind.NO_LEADER, "No leader.", "Wait.", subject="orders/0")
    status.stats.conditions.begin(Kind.BROKERS_DOWN, "No broker answers.", "Look.", blocks_readiness=True)
    assert ("kafka_unreachable, for 0 s: No broker answers. Look.",) == situation(status).blocking


# --- what is served -----------------------------------------------------------------------------------------------


def test_answers_about_health_name_ten_conditions_and_count_the_rest() -> None:
    """A body of hundreds of partitions helps nobody; `/stats` has them."""
    names = [f"position_unknown orders/{number}" for number in range(400)]
    assert names[:10] == _some(names[:10])
    assert [*names[:10], "and 390 more"] == _some(names)


def test_document_is_as_the_schema_says() -> None:
    """With conditions, a partition that has not begun, and one whose end is old."""
    consumer = ConsumerOfNobody()
    consumer.assign(ORDERS, position=None, end=None)
    consumer.assign(PAYMENTS, told_seconds_ago=31)
    status = status_of(consumer)
    for kind in Kind:
        status.stats.conditions.begin(kind, "Wrong.", "Act.", subject="orders", blocks_readiness=True)
    schema = json.loads((ROOT / "docs" / "stats.schema.json").read_text())
    validator = Draft202012Validator(schema)
    document = json.loads(json.dumps(status.document()))
    assert [] == [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert len(Kind) == len(document["conditions"])
    known = schema["properties"]["conditions"]["items"]["properties"]["kind"]["enum"]
    assert [kind.value for kind in Kind] == known


def test_metrics_have_every_condition() -> None:
    """Those that are not active too, so that an alert can tell "no" from "never heard of it"."""
    status = status_of(ConsumerOfNobody())
    for subject in ("orders/0", "orders/1"):
        status.stats.conditions.begin(Kind.NO_LEADER, "Wrong.", "Act.", subject=subject)
    status.stats.conditions.begin(Kind.TOPIC_GONE, "Wrong.", "Act.", subject="orders")
    status.stats.conditions.end(Kind.TOPIC_GONE, "orders")
    (family,) = [one for one in Metrics(status).collect() if one.name == "streams_condition_active"]
    values = {sample.labels["condition"]: sample.value for sample in family.samples}
    assert {kind.value: 2 * (kind is Kind.NO_LEADER) for kind in Kind} == values
    shown = samples(status)
    assert 3 == sum(shown["streams_conditions_begun_total"])
    assert len(Kind) == len(shown["streams_condition_seconds"])
