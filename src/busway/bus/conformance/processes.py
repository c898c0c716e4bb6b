"""Several processes on one bus, some of which die. Layers of one process skip these."""

import random
import time
from functools import partial
from itertools import pairwise

from busway.bus.conformance.harness import Bus, Client, Reader, Task, Topic, eventually
from busway.bus.conformance.peers import PATIENCE, Work, sleep
from busway.bus.operations import Delivery, GroupAdd, GroupSend, Send

ORDERED = {"lanes.*": {"ordering": "key", "lane_capacity": 100}}


def numbers(deliveries: list[Delivery]) -> list[int]:
    """Return the numbers in messages."""
    return [each.message["n"] for each in deliveries]


# -- what other processes do ------------------------------------------------------------


def echo(work: Work, count: int) -> int:
    """Answer `count` messages on their reply channels."""
    for _ in range(count):
        _, message = work.layer.receive(["questions"], timeout=PATIENCE)
        assert message is not None, "no question came"
        work.layer.send(message["reply_channel"], {"n": message["n"] + 1})
    return count


def collect(work: Work, channel: str) -> list[int]:
    """Receive numbers until a negative one comes."""
    found: list[int] = []
    while True:
        _, message = work.layer.receive([channel], timeout=PATIENCE)
        assert message is not None, "a receiver slept on"
        if message["n"] < 0:
            return found
        found.append(message["n"])


def supply(work: Work, channel: str, numbers: list[int]) -> None:
    """Send numbers, and wait for room when there is none."""
    for n in numbers:
        while work.receiver.exchange([Send(channel, {"n": n})], wake_below=1).refused:
            sleep(work.receiver)


def handle_lanes(work: Work, seed: int) -> list[tuple[str, int, float, float]]:
    """Handle ordered messages for random durations; returns (key, n, begin, end) of each."""
    dice = random.Random(seed)  # noqa: S311
    log: list[tuple[str, int, float, float]] = []
    held: list[Delivery] = []
    channels = ["lanes.a", "lanes.b", f"stop.{seed}"]
    while True:
        outcome = work.receiver.exchange((), held, channels, 4, wake_below=1)
        held = outcome.deliveries
        for delivery in held:
            if delivery.channel == f"stop.{seed}":
                return log
            begin = time.monotonic()
            time.sleep(dice.random() * 0.003)
            key, n = delivery.message["key"], delivery.message["n"]
            log.append((key, n, begin, time.monotonic()))
        if not held:
            sleep(work.receiver)


def fall_asleep(work: Work, channels: list[str]) -> None:
    """Ask to be woken by the next message for `channels`."""
    outcome = work.receiver.exchange((), (), channels, 1, wake_below=1)
    assert outcome.deliveries == []


def receive_forever(work: Work, channel: str) -> None:
    """Receive from `channel` until the end of this process."""
    while True:
        work.layer.receive([channel], timeout=None)


def gather(reader: Reader, channel: str, count: int) -> list[int]:
    """Return the numbers of `count` messages, as they come."""
    found: list[int] = []
    while len(found) < count:
        batch = reader.exchange((), (), [channel], count, wake_below=1).deliveries
        found += numbers(batch)
        if not batch:
            assert reader.wait(), f"{found} came, {count} were expected"
    return found


def has_counted(layer: Client, count: int) -> bool:
    """Return whether more than `count` messages were accepted."""
    return layer.statistics().messages_count > count


# -- and what is expected ---------------------------------------------------------------


class Processes(Topic):
    """The same promises, across processes."""

    def test_processes_talk(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        peer.start(echo, 30)
        for n in range(30):
            name = layer.layer.new_channel("reply?")
            layer.send("questions", {"reply_channel": name, "n": n})
            assert layer.receive(name, timeout=PATIENCE) == (name, {"n": n + 1})
        assert peer.result() == 30

    def test_each_message_goes_to_one_process_and_nobody_oversleeps(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer(capacity=30)
        readers = [shared_bus.peer(capacity=30) for _ in range(3)]
        writers = [shared_bus.peer(capacity=30) for _ in range(3)]
        for reader in readers:
            reader.start(collect, "crowd")
        for place, writer in enumerate(writers):
            writer.start(supply, "crowd", list(range(place * 200, place * 200 + 200)))
        for writer in writers:
            writer.result()
        for _ in readers:
            eventually(lambda: layer.statistics("crowd").messages_pending < 30, "there is room")
            layer.send("crowd", {"n": -1})
        found = [reader.result() for reader in readers]
        assert sorted(n for each in found for n in each) == list(range(600))
        for each in found:
            for place in range(3):
                own = [n for n in each if n // 200 == place]
                assert own == sorted(own)

    def test_lanes_are_in_order_and_one_at_a_time(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer(policies=ORDERED)
        workers = [shared_bus.peer(policies=ORDERED) for _ in range(3)]
        for seed, worker in enumerate(workers):
            worker.start(handle_lanes, seed)
        keys = "abcd"
        for n in range(40):
            for key in keys:
                layer.send("lanes.a" if n % 3 else "lanes.b", {"key": key, "n": n})
        eventually(lambda: layer.statistics().messages_pending == 0, "all is handled")
        for seed in range(len(workers)):
            layer.send(f"stop.{seed}", {})
        log = sorted((entry for each in workers for entry in each.result()), key=lambda e: e[2])
        for key in keys:
            lane = [entry for entry in log if entry[0] == key]
            assert [n for _, n, _, _ in lane] == list(range(40))
            assert all(end <= begin for (*_, end), (_, _, begin, _) in pairwise(lane))

    def test_capacity_counts_what_all_processes_sent(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer(capacity=4)
        peers = [shared_bus.peer(capacity=4) for _ in range(2)]
        refused = [
            len(peer.exchange([Send("full", {"n": n}) for n in range(3)]).refused) for peer in peers
        ]
        assert refused == [0, 2]
        assert len(layer.drain("full")) == 4

    def test_a_group_message_reaches_the_members_of_every_process(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer()
        peers = {name: shared_bus.peer() for name in ("x", "y")}
        for name in peers:
            for member in range(3):
                layer.group_add("group", f"proc.{name}!{member}")
        layer.group_add("group", "plain")
        layer.group_send("group", {"n": 1})
        for name, peer in peers.items():
            (found,) = peer.take(f"proc.{name}!")
            assert found.channel == f"proc.{name}!"
            assert sorted(found.members) == [f"proc.{name}!{member}" for member in range(3)]
        assert layer.drain("plain") == [{"n": 1}]

    def test_a_process_may_come_and_go(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer()
        layer.send("work", {"n": 1})
        with shared_bus.peer() as peer:
            assert numbers(peer.take("work")) == [1]
        assert layer.receive("work") == ("work", {"n": 1})
        assert layer.statistics().dropped == {}

    def test_members_stay_when_another_process_ends(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer()
        reader = layer.reader()
        reader.listen("proc.x!")
        with shared_bus.peer() as peer:
            peer.exchange([GroupAdd("group", "proc.x!a")])
        layer.group_send("group", {"n": 1})
        assert [each.members for each in reader.take("proc.x!")] == [("proc.x!a",)]

    def test_a_flush_is_for_all_processes(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        peer.exchange([GroupAdd("group", "proc.x!a"), GroupSend("group", {"n": 1})])
        assert [each.members for each in peer.take("proc.x!")] == [("proc.x!a",)]
        peer.run(fall_asleep, ["proc.x!"])
        layer.flush()
        peer.exchange([GroupAdd("group", "proc.x!b"), GroupSend("group", {"n": 2})])
        assert [each.members for each in peer.take("proc.x!")] == [("proc.x!b",)]


class Deaths(Topic):
    """A process that is killed takes with it only what it had begun."""

    def test_what_a_dead_process_had_not_begun_goes_to_others_in_order(
        self, shared_bus: Bus
    ) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        layer.reader().exchange([Send("work", {"n": n}) for n in range(8)])
        held = peer.take("work", limit=5)
        peer.begin(held[1])
        peer.kill()
        found = [layer.next_message("work", timeout=PATIENCE)["n"] for _ in range(3)]
        eventually(lambda: layer.statistics().dropped, "the death is noticed")
        found += [message["n"] for message in layer.drain("work")]
        assert sorted(found) == [2, 3, 4, 5, 6, 7]
        assert [n for n in found if n < 5] == [2, 3, 4]
        assert layer.statistics("work").dropped == {"receiver died": 2}

    def test_given_back_messages_are_in_front(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        layer.reader().exchange([Send("work", {"n": n}) for n in range(8)])
        peer.begin(peer.take("work", limit=5)[1])
        peer.kill()
        eventually(lambda: shared_bus.layer().statistics().dropped, "the death is noticed")
        assert [message["n"] for message in layer.drain("work")] == [2, 3, 4, 5, 6, 7]

    def test_what_was_done_before_a_death_is_done(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        layer.reader().exchange([Send("work", {"n": n}) for n in range(6)])
        held = peer.take("work", limit=2)
        peer.begin(held[1])
        held = peer.exchange((), held, ["work"], 2).deliveries
        peer.begin(held[0])
        peer.kill()
        # Between machines a death is noticed after a while: the others may come first.
        assert sorted(gather(layer.reader(), "work", 3)) == [3, 4, 5]
        assert layer.statistics().dropped == {"receiver died": 1}

    def test_a_sleeping_receiver_gets_what_a_dead_process_left(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        layer.send("work", {"n": 1})
        assert numbers(peer.take("work")) == [1]
        task = Task(lambda: layer.receive("work", timeout=3 * PATIENCE))
        peer.kill()
        assert task.result() == ("work", {"n": 1})

    def test_lanes_go_on_after_a_death(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(policies=ORDERED), shared_bus.peer(policies=ORDERED)
        sends = [Send("lanes.a", {"key": key, "n": n}) for n in range(3) for key in "ab"]
        layer.reader().exchange(sends)
        held = peer.take("lanes.a")
        assert sorted(each.message["key"] for each in held) == ["a", "b"]
        lost = held[0].message["key"]
        peer.begin(held[0])
        peer.kill()
        reader = layer.reader()
        found: dict[str, list[int]] = {"a": [], "b": []}
        done: list[Delivery] = []
        while sum(map(len, found.values())) < 5:
            done = reader.exchange((), done, ["lanes.a"], 10, wake_below=1).deliveries
            for each in done:
                found[each.message["key"]].append(each.message["n"])
            if not done:
                assert reader.wait(), "the lanes stand still"
        assert found == {key: [1, 2] if key == lost else [0, 1, 2] for key in "ab"}
        assert layer.statistics().dropped == {"receiver died": 1}

    def test_a_message_is_not_lost_on_a_dead_sleeper(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer()
        sleepers = [shared_bus.peer() for _ in range(2)]
        for peer in sleepers:
            peer.run(fall_asleep, ["work"])
        reader = layer.reader()
        reader.listen("work")
        for peer in sleepers:
            peer.kill()
        layer.send("work", {"n": 1})
        reader.sleep()
        assert gather(reader, "work", 1) == [1]

    def test_what_a_dead_sleeper_was_woken_for_goes_to_another(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        peer.run(fall_asleep, ["work"])
        reader = layer.reader()
        reader.listen("work")
        layer.send("work", {"n": 1})
        peer.kill()
        assert gather(reader, "work", 1) == [1]

    def test_the_members_of_a_dead_process_leave_their_groups(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(), shared_bus.peer()
        peer.run(fall_asleep, ["proc.x!"])
        layer.group_add("group", "proc.x!a")
        layer.group_add("group", "proc.x!b")
        layer.group_add("group", "plain")
        peer.kill()

        def left() -> bool:
            layer.receive("anything")
            return layer.members("group") == ["plain"]

        eventually(left, "they leave")

    def test_lanes_go_on_when_a_process_dies_that_their_messages_are_for(
        self, shared_bus: Bus
    ) -> None:
        layer, peer = shared_bus.layer(policies=ORDERED), shared_bus.peer(policies=ORDERED)
        peer.run(fall_asleep, ["lanes.x!"])
        for channel in ("lanes.x!a", "lanes.x!b", "lanes.y!a"):
            layer.send(channel, {"key": "k"})
        peer.kill()

        def is_noticed() -> bool:
            layer.receive("anything")
            return bool(layer.statistics().dropped)

        eventually(is_noticed, "the death is noticed")
        assert layer.receive("lanes.y!", timeout=PATIENCE) == ("lanes.y!a", {"key": "k"})
        found = layer.statistics()
        assert (found.messages_pending, found.dropped) == (0, {"receiver died": 2})

    def test_a_waiting_sender_survives_the_death_of_the_reader(self, shared_bus: Bus) -> None:
        layer, peer = shared_bus.layer(capacity=2), shared_bus.peer(capacity=2)
        sender = layer.reader()
        sender.exchange([Send("full", {"n": n}) for n in range(2)])
        assert sender.exchange([Send("full", {"n": 2})], wake_below=1).refused != []
        assert numbers(peer.take("full")) == [0, 1]
        sender.sleep()
        peer.kill()
        assert sender.exchange([Send("full", {"n": 2})]).refused == []
        assert sorted(gather(layer.reader(), "full", 3)) == [0, 1, 2]

    def test_a_death_in_the_middle_of_work_leaves_the_bus_whole(self, shared_bus: Bus) -> None:
        layer = shared_bus.layer(capacity=100)
        count = 0
        for _ in range(5):
            writer, reader = shared_bus.peer(capacity=100), shared_bus.peer(capacity=100)
            reader.start(receive_forever, "churn")
            writer.start(supply, "churn", list(range(1_000_000)))
            at_work = partial(has_counted, layer, count + 100)
            eventually(at_work, "the other processes are at work")
            writer.kill()
            reader.kill()
            found = [message["n"] for message in layer.drain("churn")]
            assert [n - found[0] for n in found] == list(range(len(found)))
            count = layer.statistics().messages_count
        layer.send("churn", {"n": -1})
        assert layer.receive("churn") == ("churn", {"n": -1})
