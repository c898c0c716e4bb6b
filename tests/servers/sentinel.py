"""A primary with replicas, and sentinels that make one of those the next primary."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import redis

from servers.redis import RedisServer
from servers.starting import until

SERVICE = "busway"
"""The name under which sentinels know the primary."""

_PERIODS = "INFO-PERIOD 200 ASK-PERIOD 200 PING-PERIOD 100 PUBLISH-PERIOD 200 ELECTION-TIMEOUT 1000"
"""Milliseconds; as they come, a sentinel takes ten seconds to notice a new replica."""


class _Sentinel(RedisServer):
    """One sentinel."""

    ready = r"\+monitor master"
    mode = ("--sentinel",)

    def __init__(self, watched: RedisServer, quorum: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._watched = watched
        self._quorum = quorum

    def _configuration(self) -> dict[str, str]:
        host, port = self._watched.address
        lines = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.directory),
            "unixsocket": str(self.socket_path),
            "daemonize": "no",
            "protected-mode": "no",
            # First of its lines: the others are about what it names.
            "sentinel monitor": f"{SERVICE} {host} {port} {self._quorum}",
            "sentinel down-after-milliseconds": f"{SERVICE} 500",
            "sentinel failover-timeout": f"{SERVICE} 1500",
        }
        if self._watched.password is not None:
            lines["sentinel auth-pass"] = f"{SERVICE} {self._watched.password}"
        if self.password is not None:
            lines["requirepass"] = lines["sentinel sentinel-pass"] = self.password
        return lines | self._encryption()

    def start(self) -> None:
        """Start it with short periods, where it has that command (Redis 7 and later)."""
        super().start()
        with suppress(redis.ResponseError):
            self.call("SENTINEL", "DEBUG", *_PERIODS.split())

    def view(self) -> dict[str, str]:
        """Return what it thinks of the primary: see `SENTINEL MASTER`."""
        words = [word.decode() for word in self.call("SENTINEL", "MASTER", SERVICE)]
        return dict(zip(words[::2], words[1::2], strict=True))

    def primary(self) -> tuple[str, int]:
        """Return the host and port that it thinks is the primary."""
        view = self.view()
        return view["ip"], int(view["port"])


class Sentinels:
    """A primary, its replicas and its sentinels, from `with` to its end."""

    service = SERVICE

    def __init__(
        self,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        of_sentinels: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`settings` are those of `RedisServer`, for the primary and its replicas.

        `of_sentinels` are the sentinels' own.
        """
        self._counts = replicas, sentinels
        self._of_sentinels = dict(of_sentinels or {})
        self._settings = settings
        self._stack = ExitStack()
        self.servers: list[RedisServer] = []
        """The one that begins as the primary, and the replicas."""
        self.sentinels: Sequence[RedisServer] = ()

    def __enter__(self) -> Self:
        replicas, sentinels = self._counts
        try:
            primary = self._stack.enter_context(RedisServer(**self._settings))
            self.servers.append(primary)
            for _ in range(replicas):
                server = RedisServer(**self._settings, replica_of=primary)
                self.servers.append(self._stack.enter_context(server))
            for server in self.servers[1:]:
                server.wait_until_follows()
            where = {key: self._settings[key] for key in _WHERE if key in self._settings}
            settings = where | self._of_sentinels
            self._sentinels = [
                self._stack.enter_context(_Sentinel(primary, sentinels // 2 + 1, **settings))
                for _ in range(sentinels)
            ]
            self.sentinels = self._sentinels
            until(self._know_each_other, "the sentinels know all servers and each other")
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
        """Hosts and ports of the sentinels."""
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def layer_url(self) -> str:
        """The URL of the bus on the primary; without a password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def primary(self) -> RedisServer:
        """Return the server that most sentinels say is the primary."""
        said = [sentinel.primary() for sentinel in self._running()]
        found = max(said, key=said.count)
        return next(server for server in self.servers if server.address == found)

    def failover(self) -> RedisServer:
        """Make a replica the primary although the primary lives; returns the new one."""
        before = self.primary()
        until(self._try_failover, "a sentinel begins a failover")
        return self._wait_for_another(before)

    def kill_primary(self) -> RedisServer:
        """Kill the primary, and wait until another one is; returns that."""
        before = self.primary()
        before.kill()
        return self._wait_for_another(before)

    def _running(self) -> list[_Sentinel]:
        return [sentinel for sentinel in self._sentinels if sentinel.is_running]

    def _try_failover(self) -> bool:
        # It refuses while it thinks that no replica is good, or that one is under way.
        with suppress(redis.ResponseError):
            self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
            return True
        return False

    def _wait_for_another(self, before: RedisServer) -> RedisServer:
        until(lambda: self._agree_on_another(before), "the sentinels agree on a new primary")
        return self.primary()

    def _agree_on_another(self, before: RedisServer) -> bool:
        # One that thinks that the failover goes on would take no part in the next.
        views = [sentinel.view() for sentinel in self._running()]
        if {view["flags"] for view in views} != {"master"}:
            return False
        if len({view["port"] for view in views}) != 1:
            return False
        return self.primary() is not before and self.primary().is_primary

    def _know_each_other(self) -> bool:
        views = [sentinel.view() for sentinel in self._sentinels]
        replicas = {int(view["num-slaves"]) for view in views}
        others = {int(view["num-other-sentinels"]) for view in views}
        return replicas == {len(self.servers) - 1} and others == {len(views) - 1}


_WHERE = ("binary", "host", "inside")
"""Settings that sentinels share with the servers."""
