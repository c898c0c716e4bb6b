"""A cluster whose slots can be moved, and whose nodes can be killed, while it is used."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

from servers.redis import FAR_BUS, RedisServer
from servers.starting import until

SLOTS = 16_384


class _Node(RedisServer):
    """One node."""

    def _configuration(self) -> dict[str, str]:
        return super()._configuration() | {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": "1000",
            "cluster-replica-validity-factor": "0",
            "cluster-allow-replica-migration": "no",
            "cluster-require-full-coverage": "no",
        }

    def my_id(self) -> str:
        """Return its id in the cluster."""
        found: str = self.call("CLUSTER", "MYID").decode()
        return found

    def known(self) -> dict[str, list[str]]:
        """Return what it says of each node, by its id: see `CLUSTER NODES`."""
        lines = _text(self.call("CLUSTER", "NODES")).splitlines()
        return {words[0]: words[1:] for words in (line.split() for line in lines)}

    def follows(self, primary: str) -> bool:
        """Say whether it is a replica of the node with the id `primary`."""
        return self.known()[self.my_id()][2] == primary

    def slots(self) -> list[int]:
        """Return the slots that are its own."""
        words = self.known()[self.my_id()][7:]
        return [slot for word in words if word[0] != "[" for slot in _range(word)]

    def has_slot(self, slot: int, owner: str) -> bool:
        """Say whether this node thinks that `slot` belongs to the node with the id `owner`."""
        return any(slot in _range(word) for word in self.known()[owner][7:] if word[0] != "[")


class Cluster:
    """A cluster of primaries with replicas, from `with` to its end."""

    def __init__(self, *, primaries: int = 3, replicas: int = 1, **settings: Any) -> None:
        """`replicas` is how many each primary has; `settings` are those of `RedisServer`."""
        self._primaries = primaries
        self._replicas = replicas
        self._settings = settings
        self._stack = ExitStack()
        self.nodes: list[_Node] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._primaries * (1 + self._replicas)):
                self.nodes.append(self._stack.enter_context(_Node(**self._settings)))
            self._join()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Hosts and ports of all nodes."""
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        """The URL of its first node."""
        return self.nodes[0].url

    @property
    def layer_url(self) -> str:
        """The URL of the bus on it; without a password."""
        return f"redis+cluster://{','.join(f'{host}:{port}' for host, port in self.addresses)}"

    def primaries(self) -> list[_Node]:
        """Return the nodes that serve slots now."""
        return [node for node in self.nodes if node.is_primary and node.slots()]

    def owner(self, slot: int) -> _Node:
        """Return the node that serves `slot` now."""
        found = self._find_owner(slot)
        if found is None:
            raise LookupError(f"nobody serves slot {slot}")
        return found

    def used_slots(self) -> list[int]:
        """Return the slots that have keys."""
        return [
            slot
            for node in self.primaries()
            if node.call("DBSIZE")
            for slot in node.slots()
            if node.call("CLUSTER", "COUNTKEYSINSLOT", slot)
        ]

    # -- changes while it is used -------------------------------------------------------

    def move_slot(
        self, slot: int, target: RedisServer | None = None, *, at_once: int = 100
    ) -> RedisServer:
        """Move `slot` with its keys to `target` (None: the next primary), which is returned.

        `at_once` is how many keys go at a time; in between they are in two places.
        """
        source = self.owner(slot)
        others = [node for node in self.primaries() if node is not source]
        goal = next((node for node in others if target in (None, node)), None)
        if goal is None:
            raise ValueError(f"slot {slot}: {target} is no other primary")
        giver, taker = source.my_id(), goal.my_id()
        goal.call("CLUSTER", "SETSLOT", slot, "IMPORTING", giver)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", taker)
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, at_once):
            login = ("AUTH", goal.password) if goal.password else ()
            source.call("MIGRATE", *goal.address, "", 0, 5000, *login, "KEYS", *keys)
        # The taker first: were it the last, nobody would serve the slot meanwhile.
        for node in (goal, source, *(node for node in others if node is not goal)):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", taker)
        self._wait_for(lambda node: node.has_slot(slot, taker), f"slot {slot} moved")
        return goal

    def reshard(self, slots: Iterable[int] | None = None) -> list[int]:
        """Move slots (None: all that have keys), one by one, to other primaries; returns them."""
        moved = list(self.used_slots() if slots is None else slots)
        for slot in moved:
            self.move_slot(slot)
        return moved

    def kill_primary(self, slot: int = 0) -> RedisServer:
        """Kill the primary of `slot`, and wait until its replica serves; returns that."""
        before = self.owner(slot)
        before.kill()
        replacement = until(lambda: self._find_owner(slot), "a replica took over")
        me = replacement.my_id()
        self._wait_for(lambda node: node.has_slot(slot, me), "all know who took over")
        return replacement

    def failover(self, slot: int = 0) -> RedisServer:
        """Let a replica take over from the primary of `slot`, which lives; returns it."""
        before = self.owner(slot).my_id()
        replica = next(node for node in self.nodes if node.is_running and node.follows(before))
        me = replica.my_id()
        # Who does not know it as that primary's replica would not listen to it.
        self._wait_for(lambda node: node.known()[me][2] == before, "all know the replica")
        replica.wait_until_follows()
        replica.call("CLUSTER", "FAILOVER")
        self._wait_for(lambda node: node.has_slot(slot, me), "the replica took over")
        return replica

    # -- how it is made -----------------------------------------------------------------

    def _join(self) -> None:
        first, *others = self.nodes
        ids = [node.my_id() for node in self.nodes]
        for epoch, node in enumerate(self.nodes, 1):
            # Else nodes that are all new have to find out who gives way.
            node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node in others:
            first.call("CLUSTER", "MEET", *node.address, node.port + FAR_BUS)
        share = -(-SLOTS // self._primaries)
        for number, node in enumerate(self.nodes[: self._primaries]):
            own = range(number * share, min((number + 1) * share, SLOTS))
            node.call("CLUSTER", "ADDSLOTS", *own)
        self._wait_for(lambda node: set(ids) <= set(node.known()), "the nodes know each other")
        for number, node in enumerate(self.nodes[self._primaries :]):
            node.call("CLUSTER", "REPLICATE", ids[number % self._primaries])
        for node in self.nodes[self._primaries :]:
            node.wait_until_follows()
        self._wait_for(self._sees_all, "the cluster is whole")

    def _sees_all(self, node: _Node) -> bool:
        if "cluster_state:ok" not in _text(node.call("CLUSTER", "INFO")):
            return False
        flags = [words[1] for words in node.known().values()]
        replicas = sum("slave" in flag for flag in flags)
        return replicas == self._primaries * self._replicas and not any("fail" in f for f in flags)

    def _find_owner(self, slot: int) -> _Node | None:
        return next((node for node in self.primaries() if slot in node.slots()), None)

    def _wait_for(self, condition: Callable[[_Node], bool], what: str) -> None:
        for node in self.nodes:
            if node.is_running:
                until(partial(condition, node), what)


def _range(word: str) -> range:
    low, _, high = word.partition("-")
    return range(int(low), int(high or low) + 1)


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
