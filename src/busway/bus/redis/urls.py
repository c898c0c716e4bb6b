"""What a Redis layer's URL says: which servers, and how they belong together.

    redis://user:password@host:6379/0             one server; rediss:// with TLS, unix:///path
    redis://host1:6379,host2:6379/0               several: each is a shard
    redis+sentinel://host1:26379,host2:26379/main,other   services that sentinels know: shards
    redis+cluster://host1:7000,host2:7001         a cluster, of which some nodes are named

With rediss+sentinel and rediss+cluster the servers speak TLS. How sentinels are asked is said by
options of their own: sentinel_password=…
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from busway.bus.errors import ConfigurationError
from busway.bus.redis.cluster import Cluster
from busway.bus.redis.servers import (
    CONNECTION_OPTIONS,
    SENTINEL_OPTIONS,
    SentinelServer,
    Server,
)
from busway.bus.redis.shards import Shard, make_cluster_shards, make_shards
from busway.bus.urls import LAYER_OPTIONS, query_options

SLOTS = 16
"""Shards on a cluster, unless told otherwise."""

_PREFIX = re.compile(r"[A-Za-z0-9\-_.:]+", re.ASCII)
"""No braces: a cluster would look there for what keeps the keys of a shard together."""


def options_of(url: str, **others: Callable[[str], Any]) -> dict[str, Any]:
    """Return the options of a Redis layer in its URL, and those of the types in `others`.

    Raises `ConfigurationError` for unknown ones, and those that are of another type.
    """
    own: dict[str, Callable[[str], Any]] = {"prefix": str, "slots": int}
    kinds = LAYER_OPTIONS | own | CONNECTION_OPTIONS | SENTINEL_OPTIONS | others
    options = query_options(url, kinds)
    connection = {key: options.pop(key) for key in CONNECTION_OPTIONS if key in options}
    asking = {
        key.removeprefix("sentinel_"): options.pop(key)
        for key in SENTINEL_OPTIONS
        if key in options
    }
    return {
        "url": url.partition("?")[0],
        "connection_kwargs": connection,
        "sentinel_kwargs": asking or None,
        **options,
    }


def shards_of(
    url: str | Sequence[str],
    prefix: str,
    slots: int | None,
    connection_kwargs: Mapping[str, Any] | None,
    sentinel_kwargs: Mapping[str, Any] | None,
) -> list[Shard]:
    """Return the shards of the bus at `url`. Raises `ConfigurationError`."""
    options = _arguments("connection_kwargs", connection_kwargs)
    asking = _arguments("sentinel_kwargs", sentinel_kwargs)
    urls = _checked(url)
    _check_prefix(prefix)
    scheme, _, rest = urls[0].partition("://")
    plain, _, kind = scheme.partition("+")
    if slots is not None and kind != "cluster":
        raise ConfigurationError("'slots' is for a cluster: redis+cluster://host:port")
    if asking and kind != "sentinel":
        raise ConfigurationError(
            "options of sentinels are for redis+sentinel://host:26379/SERVICE: "
            + ", ".join(f"sentinel_{key}" for key in asking)
        )
    if not kind:
        servers = [Server(one, options) for each in urls for one in _split(each)]
        return make_shards(servers, prefix)
    if len(urls) > 1:
        raise ConfigurationError(f"{scheme}:// stands alone, found {len(urls)} URLs")
    if kind == "cluster":
        if slots is not None and slots < 1:
            raise ConfigurationError(f"slots is {slots}, expected 1 or more")
        starts = [Server(one, options) for one in _split(f"{plain}://{rest}")]
        return make_cluster_shards(Cluster(starts), slots or SLOTS, prefix)
    if kind == "sentinel":
        return make_shards(_services(f"{plain}://{rest}", options, asking), prefix)
    raise ConfigurationError(
        f"{scheme}:// is not known; expected redis, redis+sentinel, redis+cluster, rediss, …"
    )


def _arguments(name: str, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping | None):
        raise ConfigurationError(f"{name} is {given!r}, expected a dict of argument → value")
    return dict(given or {})


def _checked(url: object) -> list[str]:
    """Return the URLs that were given: one, or a list of them."""
    given = [url] if isinstance(url, str) else url
    if not isinstance(given, Sequence) or not given:
        raise ConfigurationError(f"url is {url!r}; expected a URL, or a list of them")
    for each in given:
        if not isinstance(each, str) or "://" not in each:
            raise ConfigurationError(f"url has {each!r}; expected a URL: redis://host:6379/0")
    return list(given)


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"prefix is {prefix!r}; expected ASCII letters, digits, '-', '_', '.' and ':'"
        )


def _split(url: str) -> list[str]:
    """Return a URL of each host of a URL."""
    scheme, _, rest = url.partition("://")
    hosts, slash, path = rest.partition("/")
    if scheme == "unix" or "," not in hosts:
        return [url]
    user, at, hosts = hosts.rpartition("@")
    return [f"{scheme}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]


def _services(url: str, options: dict[str, Any], asking: dict[str, Any]) -> list[Server]:
    scheme, _, rest = url.partition("://")
    hosts, _, services = rest.partition("/")
    user, at, hosts = hosts.rpartition("@")
    if not services:
        raise ConfigurationError(
            f"{scheme}+sentinel:// names no service: {scheme}+sentinel://host:26379/SERVICE"
        )
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":")
        if not name or not port.isdigit():
            raise ConfigurationError(f"sentinel {host!r}: expected host:port")
        sentinels.append((name, int(port)))
    template = f"{scheme}://{user}{at}sentinel"
    return [
        SentinelServer(template, options, sentinels, one, asking) for one in services.split(",")
    ]
