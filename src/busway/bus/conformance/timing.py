"""Messages that wait too long, and messages that wait on purpose."""

import time

import pytest

from busway.bus.conformance.harness import (
    FOREVER,
    MOMENT,
    PROMPT,
    Bus,
    Task,
    Topic,
    eventually,
    promptly,
)
from busway.bus.conformance.peers import PATIENCE
from busway.bus.errors import ChannelFull, UsageError
from busway.bus.operations import Send

DELAY = 2 * MOMENT


class Expiry(Topic):
    """A message that nobody takes in time is dropped, and counted."""

    def test_a_message_that_waited_too_long_is_dropped_and_counted(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT, policies={"slow": {"expiry": FOREVER}})
        layer.send("quick", {"n": 1})
        layer.send("quick", {"n": 2})
        layer.send("slow", {"n": 3})
        assert layer.statistics("quick").messages_pending == 2
        time.sleep(MOMENT)
        assert layer.receive("quick", "slow") == ("slow", {"n": 3})
        assert layer.receive("quick") == (None, None)
        assert layer.statistics("quick").messages_pending == 0
        assert layer.statistics("quick").dropped == {"expired": 2}
        assert layer.statistics().dropped == {"expired": 2}

    def test_what_nobody_reads_is_dropped_while_others_read_something_else(
        self, one_bus: Bus
    ) -> None:
        layer = one_bus.layer(expiry=MOMENT, policies={"lanes.*": {"ordering": "key"}})
        for channel in ("plain", "single?x", "proc.x!a", "lanes.a", "lanes.a"):
            layer.send(channel, {"key": "k"})
        layer.send("later", {}, delay=MOMENT)

        def dropped() -> bool:
            layer.receive("elsewhere")
            return layer.statistics().messages_pending == 0

        eventually(dropped, "everything expires")
        assert layer.statistics().dropped == {"expired": 6}
        assert layer.statistics().messages_count == 6

    def test_what_expired_is_not_received(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT)
        reader = layer.reader()
        layer.send("old", {"n": 1})
        time.sleep(MOMENT)
        layer.send("old", {"n": 2})
        assert [each.message for each in reader.take("old", limit=1)] == [{"n": 2}]
        assert layer.statistics("old").dropped == {"expired": 1}

    def test_a_message_is_there_until_it_expires(self, bus: Bus) -> None:
        layer = bus.layer(expiry=PATIENCE)
        layer.send("young", {"n": 1})
        time.sleep(MOMENT)
        assert layer.receive("young") == ("young", {"n": 1})

    def test_what_expired_makes_room(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT, capacity=2)
        layer.send("full", {"n": 1})
        layer.send("full", {"n": 2})
        with pytest.raises(ChannelFull):
            layer.send("full", {"n": 3})
        time.sleep(MOMENT)
        layer.send("full", {"n": 4})
        layer.send("full", {"n": 5})
        assert layer.drain("full") == [{"n": 4}, {"n": 5}]

    def test_prefixes_and_single_reader_channels_expire_too(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT)
        layer.send("proc.x!a", {})
        layer.send("answer?x", {})
        time.sleep(MOMENT)
        assert layer.receive("proc.x!", "answer?x") == (None, None)
        assert layer.statistics().dropped == {"expired": 2}

    def test_a_message_in_hands_does_not_expire(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT)
        reader = layer.reader()
        layer.send("held", {"n": 1})
        held = reader.take("held")
        time.sleep(MOMENT)
        reader.exchange((), held, ["held"], 5)
        assert layer.statistics().dropped == {}

    def test_a_lane_goes_on_when_the_message_in_front_expires(self, bus: Bus) -> None:
        layer = bus.layer(policies={"lanes.*": {"ordering": "key", "expiry": MOMENT}})
        reader = layer.reader()
        layer.send("lanes.a", {"key": "k", "n": 1})
        layer.send("lanes.a", {"key": "k", "n": 2})
        time.sleep(MOMENT)
        layer.send("lanes.a", {"key": "k", "n": 3})
        found = reader.take("lanes.a")
        assert [each.message["n"] for each in found] == [3]
        assert layer.statistics().dropped == {"expired": 2}


class Delay(Topic):
    """A message can be sent now and be there later."""

    def test_a_delayed_message_comes_when_it_is_due_and_not_before(self, bus: Bus) -> None:
        layer = bus.layer()
        start = time.time()
        layer.send("later", {"n": 1}, delay=MOMENT)
        assert layer.receive("later") == (None, None)
        assert layer.receive("later", timeout=PATIENCE) == ("later", {"n": 1})
        assert MOMENT <= time.time() - start < PROMPT

    def test_delayed_messages_come_in_the_order_they_are_due(self, bus: Bus) -> None:
        layer = bus.layer()
        for n, delay in enumerate((DELAY, MOMENT, 0.0, DELAY)):
            layer.send("later", {"n": n}, delay=delay)
        found = [layer.next_message("later", timeout=PATIENCE)["n"] for _ in range(4)]
        assert found == [2, 1, 0, 3]

    def test_a_delayed_message_comes_after_those_that_wait_already(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("later", {"n": 1}, delay=MOMENT)
        layer.send("later", {"n": 2})
        time.sleep(MOMENT)
        assert layer.drain("later") == [{"n": 2}, {"n": 1}]

    @pytest.mark.parametrize("channel", ["later", "later?x", "proc.x!a"])
    def test_a_sleeping_receiver_wakes_when_a_message_is_due(self, bus: Bus, channel: str) -> None:
        layer = bus.layer()
        reader = layer.reader()
        source = "proc.x!" if channel == "proc.x!a" else channel
        reader.listen(source)
        other = bus.layer()
        start = time.time()
        other.send(channel, {"n": 1}, delay=MOMENT)

        def read() -> float:
            while True:
                assert reader.wait(), "the receiver slept on"
                outcome = reader.exchange((), (), [source], 1, wake_below=1)
                if outcome.deliveries:
                    return time.time()

        assert MOMENT <= Task(read).result() - start < PROMPT

    def test_a_receiver_that_goes_to_sleep_later_wakes_when_a_message_is_due(
        self, bus: Bus
    ) -> None:
        layer = bus.layer()
        layer.send("later", {"n": 1}, delay=MOMENT)
        with promptly():
            assert layer.receive("later", timeout=None) == ("later", {"n": 1})

    def test_a_sooner_message_wakes_before_a_later_one(self, bus: Bus) -> None:
        layer = bus.layer()
        layer.send("later", {"n": 1}, delay=FOREVER)
        with promptly():
            task = Task(lambda: layer.receive("later", timeout=PATIENCE))
            bus.layer().send("later", {"n": 2}, delay=MOMENT)
            assert task.result() == ("later", {"n": 2})

    def test_a_message_that_was_accepted_enters_even_a_full_channel_when_due(
        self, bus: Bus
    ) -> None:
        layer = bus.layer(capacity=1)
        layer.send("later", {"n": 1}, delay=MOMENT)
        layer.send("later", {"n": 2})
        time.sleep(MOMENT)
        assert layer.receive("elsewhere") == (None, None)
        with pytest.raises(ChannelFull):
            layer.send("later", {"n": 3})
        assert layer.drain("later") == [{"n": 2}, {"n": 1}]

    def test_more_messages_than_one_exchange_sends_are_due_at_once(self, bus: Bus) -> None:
        layer = bus.layer(policies={"lanes.*": {"ordering": "key", "lane_capacity": 1}})
        sender = layer.reader()
        for channel in ("later", "lanes.a"):
            sends = [Send(channel, {"key": "k", "n": n}, delay=MOMENT) for n in range(700)]
            sender.exchange(sends)
        time.sleep(MOMENT)
        assert [each["n"] for each in layer.drain("later")] == list(range(700))
        assert [each["n"] for each in layer.drain("lanes.a")] == list(range(700))

    def test_expiry_counts_from_when_a_message_is_due(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT)
        layer.send("later", {"n": 1}, delay=DELAY)
        assert layer.receive("later", timeout=PATIENCE) == ("later", {"n": 1})

    def test_a_delayed_message_that_nobody_takes_expires(self, bus: Bus) -> None:
        layer = bus.layer(expiry=MOMENT)
        layer.send("later", {"n": 1}, delay=MOMENT)
        time.sleep(MOMENT)
        assert layer.statistics("later").messages_pending == 1
        time.sleep(MOMENT)
        assert layer.receive("later") == (None, None)
        assert layer.statistics("later").dropped == {"expired": 1}

    def test_a_delayed_message_of_a_lane_waits_its_turn(self, bus: Bus) -> None:
        layer = bus.layer(policies={"lanes.*": {"ordering": "key"}})
        reader = layer.reader()
        reader.exchange(
            [
                Send("lanes.a", {"key": "k", "n": 1}, delay=MOMENT),
                Send("lanes.a", {"key": "k", "n": 2}),
            ]
        )
        held = reader.take("lanes.a")
        assert [each.message["n"] for each in held] == [2]
        time.sleep(MOMENT)
        assert reader.take("lanes.a") == []
        found = reader.exchange((), held, ["lanes.a"], 5).deliveries
        assert [each.message["n"] for each in found] == [1]

    @pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf")])
    def test_impossible_delays_are_refused(self, bus: Bus, delay: float) -> None:
        layer = bus.layer()
        with pytest.raises(UsageError, match="delay"):
            layer.send("later", {}, delay=delay)
        assert layer.statistics().messages_pending == 0
