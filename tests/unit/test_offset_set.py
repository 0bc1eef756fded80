"""`OffsetSet` behaves as a set of integers does, whatever is added and in whatever order."""

from __future__ import annotations

import itertools
import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from streams.offset_set import OffsetSet

offsets = st.integers(min_value=0, max_value=40_000)
ranges = st.tuples(offsets, st.integers(min_value=0, max_value=20_000)).map(lambda pair: (pair[0], pair[0] + pair[1]))
steps = st.lists(st.one_of(st.tuples(st.sampled_from(["add", "remove"]), ranges)), max_size=12)


def _plain(changes: list[tuple[str, tuple[int, int]]]) -> set[int]:
    found: set[int] = set()
    for what, (start, stop) in changes:
        found = found | set(range(start, stop)) if what == "add" else found - set(range(start, stop))
    return found


@given(steps)
def test_it_is_the_set_of_what_was_added_and_not_removed(changes: list[tuple[str, tuple[int, int]]]) -> None:
    """Adding and removing ranges gives what a plain set gives."""
    found = OffsetSet()
    for what, (start, stop) in changes:
        (found.add_range if what == "add" else found.remove_range)(start, stop)
    expected = _plain(changes)
    assert sorted(expected) == list(found)
    assert len(expected) == len(found)
    assert bool(expected) == bool(found)


@given(st.lists(offsets, max_size=50))
def test_single_offsets_in_any_order(added: list[int]) -> None:
    """Offsets may come in any order and more than once."""
    found = OffsetSet()
    for offset in added:
        found.add(offset)
        assert offset in found
    assert sorted(set(added)) == list(found)


@given(st.lists(ranges, max_size=6), ranges)
def test_missing_and_count_are_the_two_halves_of_a_range(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    """What is missing from a range and what is counted in it add up to the range."""
    found = OffsetSet(added)
    expected = [offset for offset in range(*asked) if not any(start <= offset < stop for start, stop in added)]
    missing = list(found.missing_from(*asked))
    assert expected == [offset for start, stop in missing for offset in range(start, stop)]
    assert asked[1] - asked[0] - len(expected) == found.count(*asked)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(missing))


@given(st.lists(ranges, max_size=5), st.lists(ranges, max_size=5))
def test_union(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    """`|=` adds all of the other set and leaves that alone."""
    found, other = OffsetSet(first), OffsetSet(second)
    found |= other
    assert OffsetSet([*first, *second]) == found
    assert OffsetSet(second) == other


def test_ten_million_offsets_stay_small() -> None:
    """Ten million offsets in random order within a window take a few megabytes at most, dense ones next to nothing."""
    tracemalloc.start()
    dense = OffsetSet()
    for block in range(0, 10_000_000, 1000):
        dense.add_range(block, block + 1000)
    sparse = OffsetSet()
    shuffled = list(range(0, 400_000, 2))
    random.Random(7).shuffle(shuffled)
    for offset in shuffled:
        sparse.add(offset)
    del shuffled
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 10_000_000 == len(dense)
    assert 200_000 == len(sparse)
    assert used < 4_000_000
