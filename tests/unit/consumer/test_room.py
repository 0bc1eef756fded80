"""What is in memory is bounded in events and in bytes, whatever the events' size."""

from __future__ import annotations

from streams.consumer.room import FIRST_GUESS_BYTES, Room


def test_events_are_bounded() -> None:
    """Small events: their number counts."""
    room = Room(max_events=10, max_bytes=10**9)
    for _ in range(10):
        assert room.free() > 0
        room.took(100)
    assert 0 == room.free()
    room.let_go(3, 300)
    assert 3 == room.free()


def test_bytes_are_bounded_by_what_the_events_so_far_needed() -> None:
    """Of events of a megabyte, those that fit are taken, and one at least while there is any room."""
    room = Room(max_events=10_000, max_bytes=10_000_000)
    assert 10_000_000 // FIRST_GUESS_BYTES == room.free()
    room.took(1_000_000)
    assert 9 == room.free()
    for _ in range(8):
        room.took(1_000_000)
    assert 1 == room.free()
    room.took(1_500_000)
    assert 0 == room.free()


def test_one_event_larger_than_the_bound_is_taken_alone() -> None:
    """It could never be written otherwise."""
    room = Room(max_events=10, max_bytes=1_000)
    assert 1 == room.free()
    room.took(5_000)
    assert 0 == room.free()
    room.let_go(1, 5_000)
    assert 1 == room.free()


def test_a_room_that_was_full_is_wide_again_when_an_eighth_is_free() -> None:
    """By events and by bytes: else a batch would be what was let go of last, mostly one event."""
    room = Room(80, 8_000)
    for _ in range(80):
        room.took(100)
    room.let_go(9, 900)
    assert (9, False) == (room.free(), room.is_wide)
    room.let_go(1, 100)
    assert (10, True) == (room.free(), room.is_wide)
    room.took(101)
    assert not room.is_wide
    room.let_go(1, 101)
    assert room.is_wide
