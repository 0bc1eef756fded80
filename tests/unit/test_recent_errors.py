"""The last errors stay few, and each says what to do."""

from __future__ import annotations

import pytest

from streams.stats.recent_errors import DEAD_LETTER, MAX_ERRORS, REFUSED, RETRIED, RecentErrors


def test_same_trouble_is_counted_and_not_listed_twice() -> None:
    """A thousand throttled writes of two topics are one entry, with the last event and its message."""
    errors = RecentErrors()
    for offset in range(1000):
        errors.note(
            RETRIED, "throttled", f"throttled: SlowDown {offset}", topic="ab"[offset % 2], partition=0, offset=offset
        )
    (only,) = errors.documents()
    assert (1000, "b", 999, "SlowDown 999") == (only["count"], only["topic"], only["offset"], only["message"])
    assert only["first_time"] <= only["last_time"]


def test_remedy_of_a_refusal_is_taken_out_of_its_message() -> None:
    """What to do is said once."""
    errors = RecentErrors()
    errors.note(REFUSED, "kms", "kms: the key is disabled Enable it.", topic="a", remedy="Enable it.")
    (only,) = errors.documents()
    assert ("the key is disabled", "Enable it.") == (only["message"], only["remedy"])


def test_least_recent_error_makes_room() -> None:
    """However many topics have dead letters, the list is short, the latest first."""
    errors = RecentErrors()
    for number in range(MAX_ERRORS + 5):
        errors.note(DEAD_LETTER, "too_large", "x", topic=f"t{number}")
    errors.note(DEAD_LETTER, "too_large", "x", topic="t7")
    topics = [error["topic"] for error in errors.documents()]
    assert MAX_ERRORS == len(topics)
    assert ["t7", f"t{MAX_ERRORS + 4}"] == topics[:2]
    assert "t0" not in topics


@pytest.mark.parametrize(
    "reason",
    ["throttled", "server_error", "timeout", "connection", "credentials_expired", "conflict", "internal", "new one"],
)
def test_every_reason_has_a_remedy(reason: str) -> None:
    """Also one that somebody adds later."""
    errors = RecentErrors()
    errors.note(RETRIED, reason, "x", topic="a")
    assert len(errors.documents()[0]["remedy"]) > 15
