"""The Redis channel layer."""

import logging
import os
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from threading import Lock
from typing import Any

from busway.bus import names
from busway.bus.codec import Ids, decode_envelope
from busway.bus.errors import BusError, LayerClosed, LayerUnavailable
from busway.bus.groups import LocalGroups
from busway.bus.layer import ChannelLayer
from busway.bus.operations import Delivery, GroupAdd, Operation
from busway.bus.plans import Plans
from busway.bus.receiver import Receiver
from busway.bus.redis import packing, wire
from busway.bus.redis.complaints import ServerError, explain
from busway.bus.redis.connections import Link
from busway.bus.redis.heartbeat import ALIVE, INTERVAL, Heartbeat
from busway.bus.redis.links import Links
from busway.bus.redis.receiver import RedisReceiver
from busway.bus.redis.scripts import script
from busway.bus.redis.servers import Server
from busway.bus.redis.shards import Shard, shard_of
from busway.bus.redis.urls import options_of, shards_of
from busway.bus.statistics import GroupSize, Statistics, total
from busway.bus.statistics import Shard as Place

logger = logging.getLogger("busway.bus")

DEFAULT_URL = "redis://localhost:6379/0"

_MEMBERS_AT_ONCE = 500
_NEVER = (0.0, 0)

_SAME_CLOCK = 0.001
"""Seconds that clocks may differ and count as one."""

_SET = 1.0
"""Seconds by which a clock is off that somebody has set."""


class RedisChannelLayer(ChannelLayer):
    """A channel layer on a Redis or Valkey server, for any number of machines.

    Connections are made when they are needed, and made anew when they end.
    """

    blocks = True

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        prefix: str = "busway",
        slots: int | None = None,
        connection_kwargs: dict[str, Any] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Use the bus at `url`.

        Args:
            url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py takes them; hosts with
                commas between them, or a list of URLs, are shards. `redis+sentinel://` and
                `redis+cluster://`: see `busway.bus.redis.urls`.
            prefix: what the names of all keys begin with; buses with different ones are apart.
            slots: shards on a cluster; None: 16. All processes have to say the same.
            connection_kwargs: arguments of redis-py's connections, such as `ssl_ca_certs`.
            sentinel_kwargs: arguments of its connections to sentinels, such as `password`.
            options: those of `ChannelLayer`.

        Raises `ConfigurationError`.
        """
        super().__init__(**options)
        self.process = names.random_part()
        """This process's name on the bus."""
        self.parts: list[Shard] = shards_of(url, prefix, slots, connection_kwargs, sentinel_kwargs)
        self.plans = Plans(self.policies)
        self.groups = LocalGroups()
        ordering = {p.ordering for p in self.policies.all() if p.ordering is not None}
        self._packer = packing.Packer(
            self.plans,
            ordering,
            self.message_size,
            self.group_expiry,
            Ids().new,
            self.seal,
        )
        self._offsets = [0.0] * len(self.parts)
        """Seconds that each shard's clock is ahead of ours."""
        self._is_new = False
        """Whether a server has lost its data, or thought this process dead: the members of groups
        are to be added again."""
        self._epochs: dict[bytes, bytes] = {}
        self._seen: dict[bytes, tuple[float, int]] = {}
        """When a shard was last seen, by its clock, and how many messages waited there."""
        self._numbers = count()
        self._begin()
        _layers.add(self)

    @classmethod
    def url_options(cls, url: str) -> dict[str, Any]:
        """Return the options of `redis://HOST/DB?prefix=…&capacity=…`."""
        return options_of(url)

    @classmethod
    def check_options(
        cls,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        prefix: str = "busway",
        slots: int | None = None,
        connection_kwargs: dict[str, Any] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """See `ChannelLayer.check_options`."""
        super().check_options(**options)
        shards_of(url, prefix, slots, connection_kwargs, sentinel_kwargs)

    def _begin(self) -> None:
        """Make what belongs to this process alone."""
        self._lock = Lock()
        self._notes_lock = Lock()
        self._links = Links(self.link)
        self.life = 1
        """Counts how often this process was thought dead, and came back."""
        self._heard_by: set[bytes] = set()
        """Shards that have got a heartbeat of this process."""
        self._heart = Heartbeat(self._beat)
        self._heart_links = Links(partial(self.link, patience=INTERVAL))

    @property
    def is_closed(self) -> bool:
        """Whether the layer was closed."""
        return self._closed

    # -- for its receivers --------------------------------------------------------------

    def epoch(self, shard: Shard) -> bytes:
        """Return the mark of a shard's data; empty while it is not known."""
        return self._epochs.get(shard.key, b"")

    def see(self, shard: Shard, now: float, waiting: int, asked: float) -> None:
        """Take note of how many messages wait on a shard now, by its clock: should it lose them.

        `asked` is when it was asked, by `time.monotonic`. Clocks that were set meanwhile are
        noticed by it.
        """
        ahead = now - self.now(shard)
        if not -_SET < ahead < _SET:
            took = time.monotonic() - asked
            if not -_SET - took < ahead < _SET:
                self._offsets[shard.number] += ahead + took / 2
        if now > self._seen.get(shard.key, _NEVER)[0]:
            self._seen[shard.key] = now, waiting

    def now(self, shard: Shard | None = None) -> float:
        """Return the time by a shard's clock, None: the first one's; seconds since the epoch."""
        return time.time() + self._offsets[0 if shard is None else shard.number]

    def pack(self, operations: Sequence[Operation]) -> Sequence[packing.Batch | None]:
        """Return operations made ready for each shard. Raises `UsageError`."""
        now = time.time()
        times = [now + offset for offset in self._offsets]
        return self._packer.pack(operations, times, self.shard_of)

    def repack(self, delivery: Delivery) -> bytes:
        """Return a delivery ready to be put back."""
        return self._packer.repack(delivery)

    def shard_of(self, address: str, lane: str) -> int:
        """Return the number of the shard that has the messages of an address and lane."""
        return shard_of(address, lane, len(self.parts))

    def link(self, server: Server, patience: float | None = None) -> Link:
        """Return a new connection to a server, which may take `patience` seconds for anything."""
        return Link(server, lambda link: self._greet(link, server), patience)

    def live(self) -> None:
        """See to it that others know this process to be alive."""
        self._heart.start()

    def revive(self, life: int) -> None:
        """Have receivers make themselves known again, and add members of groups again.

        A shard has thought this process dead in its life `life`. Thread-safe.
        """
        with self._notes_lock:
            if life == self.life:
                self.life += 1
        self._is_new = True
        self._heart.hurry()

    def _greet(self, link: Link, server: Server) -> None:
        for shard in self.parts:
            if shard.server is server:
                self._get_to_know(link, shard)

    def _get_to_know(self, link: Link, shard: Shard) -> None:
        before = time.time()
        mark = names.random_part().encode()
        known = self.epoch(shard)
        seen, waiting = self._seen.get(shard.key, _NEVER)
        view = known, f"{seen:.6f}".encode(), str(waiting).encode()
        epoch, seconds, micros = link.run(script("hello"), shard.key, mark, *view)
        after = time.time()
        offset = int(seconds) + int(micros) / 1e6 - (before + after) / 2
        is_same = abs(offset) < _SAME_CLOCK + after - before
        self._offsets[shard.number] = 0.0 if is_same else offset
        with self._notes_lock:
            is_lost = self._epochs.get(shard.key, epoch) != epoch
            self._epochs[shard.key] = epoch
        if is_lost:
            self._seen.pop(shard.key, None)
            self._is_new = True
            self._heart.hurry()
            logger.warning(
                "%s has lost its data: %d messages waited there when this process last looked; "
                "group members of this process are added again",
                shard.server.name,
                waiting,
            )

    def _beat(self) -> bool:
        """Tell every shard that this process is alive; returns whether all have heard it."""
        arguments = (self.process.encode(), str(ALIVE).encode(), b"1")
        is_heard, life = True, self.life
        for shard in self.parts:
            # One that does not answer is no reason to be thought dead by the others.
            try:
                link = self._heart_links.to(shard)
                _, lives = link.run(script("beat"), shard.key, *arguments)
            except (BusError, ServerError) as error:
                logger.debug("no heartbeat: %s", error)
                is_heard = False
                with suppress(LayerUnavailable):
                    shard.look_again()
            else:
                if not lives and shard.key in self._heard_by:
                    self.revive(life)
                self._heard_by.add(shard.key)
        if is_heard and self._is_new:
            self._is_new = False
            self._add_members_again()
        return is_heard

    def _add_members_again(self) -> None:
        """Restore the memberships of this process's channels, which a server has lost."""
        operations = [GroupAdd(group, channel) for group, channel in self.groups.all()]
        for first in range(0, len(operations), _MEMBERS_AT_ONCE):
            try:
                self.exchange(operations[first : first + _MEMBERS_AT_ONCE])
            except BusError as error:
                logger.debug("members are not added again yet: %s", error)
                self._is_new = True
                return

    # -- what a backend implements ------------------------------------------------------

    def receiver(self) -> Receiver:
        """Return a new reader of this layer, for one thread or one event loop; close it after."""
        if self._closed:
            raise LayerClosed("channel layer")
        return RedisReceiver(self, f"{self.process}.{next(self._numbers)}")

    def _ask(self, name: str, *arguments: bytes) -> list[Any]:
        """Run a script on every shard; returns the replies."""
        with self._lock:
            if self._closed:
                raise LayerClosed("channel layer")
            try:
                return [self._links.run(script(name), shard, *arguments) for shard in self.parts]
            except ServerError as error:
                raise LayerUnavailable(explain(error)) from error

    def group_channels(self, group: str) -> list[str]:
        """Return the member channels of `group`, in no particular order."""
        names.check_group(group)
        replies = self._ask("members", group.encode())
        return [member.decode() for reply in replies for member in reply]

    def peek(self, channel: str) -> dict[str, Any] | None:
        """See `ChannelLayer.peek`."""
        names.check_channel(channel)
        names.check_receivable(channel)
        found = [raw for raw in self._ask("peek", channel.encode()) if raw]
        if not found:
            return None
        envelope = decode_envelope(found[0])
        return envelope.message if self.seal is None or self.seal.open(envelope) else None

    def flush(self) -> None:
        """Drop every message, group and count. Receivers that wait go on waiting."""
        self._ask("flush", wire.core_of({}, self.now()), os.urandom(8))
        self._local.clear()

    def statistics(self, channel: str | None = None) -> Statistics:
        """Return the counts of `channel` (or prefix), or of the whole layer for None."""
        if channel is not None:
            names.check_receivable(channel)
        replies = self._ask("statistics", (channel or "").encode())
        return total(wire.statistics_by_address(replies).values())

    def channel_statistics(self) -> dict[str, Statistics]:
        """See `ChannelLayer.channel_statistics`."""
        found = wire.statistics_by_address(self._ask("statistics", b""))
        found.pop("", None)
        return found

    def group_sizes(self) -> dict[str, GroupSize]:
        """See `ChannelLayer.group_sizes`."""
        return wire.group_sizes(self._ask("groups"))

    def shards(self) -> list[Place]:
        """Return the servers, and how they are."""
        with self._lock:
            if self._closed:
                raise LayerClosed("channel layer")
            return [self._look_at(shard) for shard in self.parts]

    def _look_at(self, shard: Shard) -> Place:
        name = shard.key.decode()
        try:
            name = f"{shard.server.name} {name}"
            link = self._links.to(shard)
            start = time.perf_counter()
            found = link.ask(b"INFO")
            took = time.perf_counter() - start
        except LayerUnavailable as error:
            return Place(name, healthy=False, detail=str(error))
        except ServerError as error:
            return Place(name, healthy=False, detail=explain(error))
        info = dict(line.split(":", 1) for line in found.decode().split("\r\n") if ":" in line)
        which = "Valkey" if "valkey_version" in info else "Redis"
        version = info.get("valkey_version") or info.get("redis_version", "?")
        detail = (
            f"{which} {version}, {info.get('role')}, {info.get('connected_clients')} clients, "
            f"answers in {1000 * took:.1f} ms"
        )
        used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
        return Place(name, info.get("role") == "master", detail, used, limit)

    def close(self) -> None:
        """Leave the bus; messages stay in it, but for those addressed to this process."""
        if self._closed:
            return
        super().close()
        self._heart.stop()
        if self._epochs:
            nothing = (b"", b"", b"", b"")
            for shard in self.parts:
                with suppress(BusError, ServerError):
                    self._links.run(script("leave"), shard, self.process.encode(), *nothing)
        with self._lock:
            self._links.close()
        self._heart_links.close()

    def _after_fork(self) -> None:
        """Go on as a new process, which connects when it needs to."""
        self._links.close()
        self._heart_links.close()
        self.process = names.random_part()
        self.groups = LocalGroups()
        self._begin()
        while self._idle:
            self._idle.pop().abandon()


_layers: "weakref.WeakSet[RedisChannelLayer]" = weakref.WeakSet()


def _after_fork() -> None:
    for layer in list(_layers):
        layer._after_fork()  # noqa: SLF001  (the same module)


os.register_at_fork(after_in_child=_after_fork)
