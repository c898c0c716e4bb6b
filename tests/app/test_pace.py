"""The size of batches follows the time that consumers take."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from busway.app.pace import MAX_LIMIT, TARGET, Pace

seconds = st.floats(0.0, 100.0)


def settled(mean: float) -> Pace:
    pace = Pace()
    for _ in range(100):
        pace.measure(pace.limit, mean * pace.limit)
    return pace


def test_it_starts_with_one() -> None:
    assert Pace().limit == 1


def test_quick_consumers_get_large_batches_step_by_step() -> None:
    pace = Pace()
    limits = []
    for _ in range(20):
        pace.measure(pace.limit, 1e-6 * pace.limit)
        limits.append(pace.limit)
    assert all(after <= 2 * before for before, after in itertools.pairwise(limits))
    assert limits[-1] == MAX_LIMIT


def test_a_batch_takes_about_as_long_as_wanted() -> None:
    assert settled(TARGET / 10).limit in (9, 10)


def test_slow_consumers_get_single_messages() -> None:
    assert settled(TARGET).limit == 1
    assert settled(1.0).limit == 1


def test_a_slow_batch_counts_at_once_and_is_forgotten_in_time() -> None:
    pace = settled(1e-6)
    pace.measure(1, 1.0)
    assert pace.limit == 1
    for _ in range(50):
        pace.measure(pace.limit, 1e-6 * pace.limit)
    assert pace.limit == MAX_LIMIT


@given(st.lists(st.tuples(st.integers(1, MAX_LIMIT), seconds)))
def test_it_stays_within_its_bounds(batches: list[tuple[int, float]]) -> None:
    pace = Pace()
    for count, took in batches:
        pace.measure(count, took)
        assert 1 <= pace.limit <= MAX_LIMIT
