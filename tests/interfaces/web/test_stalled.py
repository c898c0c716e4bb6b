"""Who waits for room on the bus: how many try again, whose turn it is, and when a round ends."""

from collections import deque
from collections.abc import Callable

from busway.bus.errors import BusError, BuswayError, ChannelFull, LayerUnavailable
from busway.bus.operations import Leave, Send
from busway.interfaces.web.stalled import Source, Stalled

FULL = ChannelFull("a.b", "capacity", 100)
LANE_FULL = ChannelFull("a.b", "lane", 20)


class Sender:
    """Something that sends."""

    def __init__(self) -> None:
        self.waiting: deque[Send] | None = None
        self.is_drained = False

    def refused(self, send: Send) -> bool:
        return True

    def impossible(self, send: Send, error: BuswayError) -> None:
        raise AssertionError(send)

    def drained(self) -> None:
        self.is_drained = True


Exchange = Callable[[Source, Send], BusError | None]


def wait(stalled: Stalled, count: int, error: BusError, *, each: int = 1) -> list[Sender]:
    """Let senders wait, whose sends are numbered."""
    senders = [Sender() for _ in range(count)]
    for sender in senders:
        stalled.add(sender, [Send("a.b", {"number": n}) for n in range(each)], error)
    return senders


def exchange(stalled: Stalled, answer: Exchange) -> list[tuple[Source, int]]:
    """Try once; returns who tried which."""
    operations: list[Send | Leave] = []
    sources: list[Source | None] = []
    stalled.take(operations, sources, 500)
    tried = []
    refused: dict[Source, tuple[list[Send], BusError]] = {}
    for send, source in zip(operations, sources, strict=True):
        assert isinstance(send, Send)
        assert source is not None
        tried.append((source, send.message["number"]))
        if (error := answer(source, send)) is not None:
            refused.setdefault(source, ([], error))[0].append(send)
    for source, (sends, error) in refused.items():
        stalled.add(source, sends, error)
    stalled.settle()
    return tried


def go_round(stalled: Stalled, answer: Exchange) -> list[tuple[Source, int]]:
    """Try until the round is over; returns who tried which."""
    stalled.begin_round()
    tried = []
    while stalled.open:
        tried += exchange(stalled, answer)
    return tried


def room(count: int, error: BusError = FULL) -> Exchange:
    """Return answers that take `count` sends and refuse the others."""
    left = iter(range(count))
    return lambda *_: None if next(left, None) is not None else error


def test_as_many_try_as_found_room_and_one_more() -> None:
    stalled = Stalled()
    wait(stalled, 1000, FULL)
    go_round(stalled, room(20))
    for _ in range(20):
        assert len(go_round(stalled, room(20))) == 21
    assert stalled.count() == 1000 - 21 * 20


def test_a_round_goes_on_while_there_is_room() -> None:
    stalled = Stalled()
    senders = wait(stalled, 1000, FULL)
    tried = go_round(stalled, room(900))
    assert 900 < len(tried) <= 1000
    assert sum(sender.is_drained for sender in senders) == 900
    assert len(go_round(stalled, room(1000))) == 100
    assert all(sender.is_drained for sender in senders)
    assert not stalled
    assert not stalled.lines


def test_rounds_that_find_no_room_soon_cost_next_to_nothing() -> None:
    stalled = Stalled()
    wait(stalled, 1000, FULL)
    tried = [len(go_round(stalled, room(0))) for _ in range(10)]
    assert tried == [32, 16, 8, 4, 2, 1, 1, 1, 1, 1]


def test_everybody_has_a_turn() -> None:
    stalled = Stalled()
    senders = wait(stalled, 100, FULL, each=20)
    turns = dict.fromkeys(senders, 0)
    for _ in range(100):
        for source, _ in go_round(stalled, room(10)):
            assert isinstance(source, Sender)
            turns[source] += 1
    assert max(turns.values()) - min(turns.values()) <= 2


def test_each_ones_order_stays() -> None:
    stalled = Stalled()
    senders = wait(stalled, 7, FULL, each=50)
    accepted: dict[Source, list[int]] = {sender: [] for sender in senders}
    count = 0

    def answer(source: Source, send: Send) -> BusError | None:
        nonlocal count
        count += 1
        if source in closed or count % 11 == 0:
            closed.add(source)
            return FULL
        accepted[source].append(send.message["number"])
        return None

    while stalled:
        closed: set[Source] = set()
        go_round(stalled, answer)
    assert all(numbers == list(range(50)) for numbers in accepted.values())


def test_a_full_lane_ends_no_round_but_its_own() -> None:
    stalled = Stalled()
    stuck = wait(stalled, 50, FULL)
    free = wait(stalled, 50, FULL)
    go_round(stalled, lambda source, _: LANE_FULL if source in stuck else None)
    assert all(sender.is_drained for sender in free)
    assert stalled.count() == 50
    assert len(go_round(stalled, lambda source, _: LANE_FULL)) == 50  # each is tried
    assert len(go_round(stalled, room(50))) == 50
    assert not stalled


def test_a_full_channel_holds_up_no_other() -> None:
    stalled = Stalled()
    wait(stalled, 1000, FULL)
    other = Sender()
    stalled.add(other, [Send("c.d", {"number": 0})], ChannelFull("c.d", "capacity", 1))
    go_round(stalled, lambda _, send: FULL if send.channel == "a.b" else None)
    assert other.is_drained


def test_what_is_sent_to_a_channel_stands_behind_those_who_wait_for_it() -> None:
    stalled = Stalled()
    send = Send("p.q!2", {"number": 0})
    assert not stalled.holds_up(send)
    stalled.add(Sender(), [send], ChannelFull("p.q!", "capacity", 1))
    assert stalled.holds_up(Send("p.q!1", {}))
    assert not stalled.holds_up(Send("a.b", {}))


def test_lanes_and_a_bus_out_of_reach_hold_up_nobody_else() -> None:
    stalled = Stalled()
    wait(stalled, 1, LANE_FULL)
    wait(stalled, 1, LayerUnavailable("no bus"))
    assert not stalled.holds_up(Send("a.b", {}))


def test_who_gives_up_meanwhile_waits_no_more() -> None:
    stalled = Stalled()
    first, second = wait(stalled, 2, FULL)

    def answer(source: Source, _: Send) -> BusError | None:
        if source is first:
            stalled.abandon(first)
        return None

    go_round(stalled, answer)
    assert not first.is_drained
    assert second.is_drained
    assert not stalled
