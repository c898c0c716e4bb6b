"""Redis Cluster: which node has a slot."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from busway.bus.errors import LayerUnavailable
from busway.bus.redis.connections import Channel
from busway.bus.redis.servers import Server

_PAUSE = 0.05
"""Seconds between two looks."""

_PATIENCE = 1.0
"""Seconds that a node may take to say who has what: then another one is asked."""


class Cluster:
    """The map of a cluster. Thread-safe."""

    def __init__(self, starts: Sequence[Server]) -> None:
        """Ask `starts`, and later whatever nodes there are; nothing happens before `node`."""
        self._starts = starts
        self._lock = Lock()
        self._nodes: dict[tuple[str, int], Server] = {}
        self._ranges: list[tuple[int, int, Server]] = []
        self._looked_at = 0.0

    def node(self, slot: int) -> Server:
        """Return the node that has a slot. Raises `LayerUnavailable`."""
        if not self._ranges:
            self.refresh()
        for first, last, server in self._ranges:
            if first <= slot <= last:
                return server
        raise LayerUnavailable(
            f"no node of the cluster has slot {slot}; see `redis-cli --cluster check`"
        )

    def refresh(self) -> None:
        """Ask who has what. Raises `LayerUnavailable` when nobody answers and nothing is known."""
        with self._lock:
            if self._ranges and time.monotonic() < self._looked_at + _PAUSE:
                return
            self._looked_at = time.monotonic()
            error: LayerUnavailable | None = None
            # In any order: one that is cut off from the others knows only what was.
            known = [*self._nodes.values(), *self._starts]
            for server in random.sample(known, len(known)):
                try:
                    self._read(server, _ask(server))
                except LayerUnavailable as failure:
                    error = failure
                else:
                    return
            if error is not None and not self._ranges:
                raise error

    def _read(self, server: Server, slots: Sequence[Any]) -> None:
        ranges = []
        nodes: dict[tuple[str, int], Server] = {}
        for first, last, (host, port, *_), *_ in slots:
            address = (host.decode() if host else server.host, port)
            node = self._nodes.get(address) or nodes.get(address) or server.beside(*address)
            nodes[address] = node
            ranges.append((first, last, node))
        if not ranges:
            raise LayerUnavailable(f"{server.name}: the cluster has no slots assigned")
        self._nodes, self._ranges = nodes, ranges


def _ask(server: Server) -> Sequence[Any]:
    channel = Channel(server.connect(_PATIENCE))
    try:
        channel.send(b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n", _PATIENCE)
        while (reply := channel.reply()) is False:
            channel.wait(_PATIENCE)
            channel.read()
    except OSError as error:
        raise LayerUnavailable(f"{server.name}: {error}") from error
    finally:
        with suppress(OSError):
            channel.close()
    if isinstance(reply, Exception):
        raise LayerUnavailable(f"{server.name}: {reply}; redis:// is for a single server")
    found: Sequence[Any] = reply
    return found
