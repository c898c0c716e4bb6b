"""The servers of a bus, and how to connect to them: by redis-py."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from busway.bus.errors import ConfigurationError, LayerUnavailable
from busway.bus.redis.complaints import explain_failure

CONNECTION_OPTIONS: dict[str, type] = {
    "db": int,
    "username": str,
    "password": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": str,
}
"""Arguments of redis-py's connections that a layer's URL may have."""


def true_or_false(text: str) -> bool:
    """Return what `text` says in a URL. Raises `ValueError`."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


SENTINEL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "sentinel_ssl": true_or_false,
    **{f"sentinel_{key}": kind for key, kind in CONNECTION_OPTIONS.items() if key != "db"},
}
"""The same for how sentinels are asked."""


class Server:
    """A server, and how to connect to it."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Take a URL that redis-py takes, and arguments of its connections.

        Raises `ConfigurationError` for what redis-py does not take.
        """
        self.name = _without_password(url)
        self.timeout = _timeout(options.get("socket_timeout"))
        self._url = url
        self._options = options
        # Versions of redis-py differ in what they wait for without a limit: a handshake, a reply.
        given = {
            "socket_connect_timeout": 5.0,
            **({} if url.startswith("unix") else {"socket_keepalive": True}),
            **options,
            "socket_timeout": self.timeout,
            "protocol": 2,
        }
        try:
            pool = ConnectionPool.from_url(url, **given)
            self._class, self._arguments = pool.connection_class, pool.connection_kwargs
            self._class(**self._arguments)
        except (TypeError, ValueError, redis.RedisError) as error:
            raise ConfigurationError(f"{self.name}: {_reason(url, error)}") from None

    @property
    def host(self) -> str:
        """Its host's name."""
        return str(self._arguments.get("host", "localhost"))

    def beside(self, host: str, port: int) -> "Server":
        """Return another server that is to be talked to in the same way."""
        scheme, _, rest = self._url.partition("://")
        user, at, _ = rest.partition("/")[0].rpartition("@")
        return Server(f"{scheme}://{user}{at}{host}:{port}", self._options)

    def connect(self, patience: float | None = None) -> AbstractConnection:
        """Return a new connection. Raises `LayerUnavailable`, which says what to do.

        `patience` is how long a server may take for anything: seconds, None for what is set.
        """
        return self._connect(self._arguments, patience)

    def _connect(self, arguments: Mapping[str, Any], patience: float | None) -> AbstractConnection:
        if patience is not None:
            limits = {"socket_connect_timeout": patience, "socket_timeout": patience}
            arguments = {**arguments, **limits}
        made = self._class(**arguments)
        try:
            made.connect()
        except (redis.RedisError, OSError) as error:
            made.disconnect()
            text = explain_failure(error, tls=issubclass(self._class, redis.SSLConnection))
            raise LayerUnavailable(f"{self.name}: {text}") from error
        return cast("AbstractConnection", made)


_SENTINEL_ARGUMENTS = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "protocol": 2,
    # Another one is asked instead: by itself redis-py asks one that is down for many seconds.
    "retry": Retry(NoBackoff(), 0),
}


class SentinelServer(Server):
    """The server that sentinels call the master of a service."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        sentinels: Sequence[tuple[str, int]],
        service: str,
        asking: Mapping[str, Any],
    ) -> None:
        """Ask `sentinels`; `url` says how to talk to the server they name.

        `asking` has arguments of redis-py's connections to the sentinels themselves. Those of TLS
        turn it on. Raises `ConfigurationError` for what redis-py does not take.
        """
        super().__init__(url, options)
        self.name = f"service {service}"
        self._service = service
        given = {**_SENTINEL_ARGUMENTS, **asking}
        if any(key.startswith("ssl_") for key in asking):
            given.setdefault("ssl", True)
        try:
            self._sentinels = Sentinel(sentinels, sentinel_kwargs=given)  # type: ignore[no-untyped-call]
            for sentinel in self._sentinels.sentinels:
                pool = sentinel.connection_pool
                pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError, redis.RedisError) as error:
            raise ConfigurationError(f"sentinel_kwargs: {error}") from None

    def connect(self, patience: float | None = None) -> AbstractConnection:
        """Return a new connection to the master of now. Raises `LayerUnavailable`."""
        try:
            host, port = self._sentinels.discover_master(self._service)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise LayerUnavailable(f"{self.name}: {self._complaint(error)}") from error
        return self._connect({**self._arguments, "host": host, "port": port}, patience)

    def _complaint(self, error: redis.RedisError) -> str:
        """Return why no sentinel names a master, and what to do about it."""
        if not isinstance(error, MasterNotFoundError):
            return f"{error}; is that a sentinel, and may its user call SENTINEL?"
        for sentinel in self._sentinels.sentinels:
            try:
                sentinel.ping()
            except redis.RedisError as failure:
                where = sentinel.connection_pool.connection_kwargs
                text = str(failure).rstrip(".")
                return f"sentinel {where['host']}:{where['port']}: {text}; {_advice(text)}"
        return f"the sentinels know no master {self._service!r} that is healthy; is that its name?"


def _advice(text: str) -> str:
    """Return what to do about an error of a sentinel."""
    if re.search("[Aa]uthentication|NOAUTH|WRONGPASS|username-password", text):
        return "give the sentinels' own password: sentinel_password, and sentinel_username"
    if re.search("SSL|[Rr]eset by peer|closed by server", text):
        return "do the sentinels speak TLS? sentinel_ssl=true, and sentinel_ssl_ca_certs=FILE"
    return "is it running, and the address right?"


def _timeout(given: object) -> float:
    if given is None or (isinstance(given, int | float) and 0 < given < inf):
        return float(given or 10.0)
    raise ConfigurationError(f"socket_timeout is {given!r}, expected seconds, more than 0")


def _reason(url: str, error: Exception) -> str:
    """Return why redis-py does not take a URL and options."""
    text = str(error)
    if text.startswith("Port could not") and "@" in url:
        # Its text has what comes before the first special character.
        return (
            "the port is no number; if user or password have special characters, write them as "
            "urllib.parse.quote(password, safe='') does"
        )
    if "unexpected keyword argument 'ssl_" in text:
        return f"{text.partition(' ')[2]}; options of TLS are for rediss://"
    return text


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2].partition("?")[0]
