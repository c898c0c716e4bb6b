"""The wheel that keeps everybody's deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from busway.interfaces.web.timers import Wheel


class Item:
    """Something with a deadline."""

    def __init__(self) -> None:
        self.slot = 0

    def expire(self, now: float) -> None:
        """Do nothing."""


times = st.floats(0, 1000, allow_nan=False)


@given(st.lists(times, max_size=30), st.lists(times, min_size=1, max_size=10))
def test_deadlines_are_never_early_at_most_one_slot_late_and_reported_once(
    deadlines: list[float], looks: list[float]
) -> None:
    wheel = Wheel(resolution=0.5)
    items = {Item(): deadline for deadline in deadlines}
    for item, deadline in items.items():
        wheel.set(item, deadline)
    for now in sorted(looks):
        for found in wheel.due(now):
            assert isinstance(found, Item)
            assert items.pop(found) <= now
        assert all(deadline > now - 0.5 for deadline in items.values())


def test_a_new_deadline_replaces_the_old_one() -> None:
    wheel, item = Wheel(), Item()
    wheel.set(item, 1.0)
    wheel.set(item, 5.0)
    assert wheel.due(2.0) == []
    assert wheel.due(6.0) == [item]


def test_a_discarded_deadline_is_not_reported() -> None:
    wheel, item = Wheel(), Item()
    wheel.set(item, 1.0)
    wheel.discard(item)
    wheel.discard(item)
    assert wheel.due(2.0) == []


def test_a_deadline_is_hastened_but_not_put_off() -> None:
    wheel, item = Wheel(1.0), Item()
    wheel.hasten(item, 5.0)
    wheel.hasten(item, 9.0)
    assert wheel.due(4.9) == []
    wheel.hasten(item, 2.0)
    assert wheel.due(2.0) == [item]
    assert wheel.due(9.0) == []
