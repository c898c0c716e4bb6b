"""Which pages may open WebSockets: those of the site itself, unless the project says otherwise.

A browser sends the cookies of a site along with every WebSocket to it, whoever's page opens it,
and only the Origin header tells. So every `websocket.connect` is checked before any consumer
runs, by the validator that the setting CHANNEL_ORIGIN_VALIDATOR names: by default
`AllowedHostsOnlyOriginValidator`; None: none.
"""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, update_wrapper
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.signals import setting_changed
from django.http.request import split_domain_port, validate_host
from msgspec.structs import replace

from busway.app.exceptions import DenyConnection
from busway.app.loading import load
from busway.app.message import Message
from busway.app.targets import Target, is_async
from busway.bus.errors import ConfigurationError, UsageError

logger = logging.getLogger("busway.security")

DEFAULT_VALIDATOR = "busway.django.security.websockets.AllowedHostsOnlyOriginValidator"

LOCAL_HOSTS = (".localhost", "127.0.0.1", "[::1]")
"""What Django takes an empty ALLOWED_HOSTS for, with DEBUG."""

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class BaseOriginValidator:
    """Decides by its origin whether a WebSocket may be opened; a decorator of consumers too.

    Subclasses override `get_allowed_origins`, or `validate_origin`, and are named by
    CHANNEL_ORIGIN_VALIDATOR or used as a decorator: `@MyValidator`. They must not block.
    """

    allow_null = False
    """Whether the origin "null" is validated like others: that of sandboxed frames, of files,
    and of whoever wants to hide. False: it is refused."""

    def __init__(self, consumer: Callable[..., Any] | None = None) -> None:
        """Take the consumer to decorate; None: only to check."""
        self.consumer = consumer
        if consumer is not None:
            update_wrapper(self, consumer)
            if is_async(consumer):
                # What looks at an instance sees this one, and that it is async.
                self.__call__ = self._acall  # type: ignore[method-assign]

    def __call__(self, message: Message, *args: Any, **kwargs: Any) -> Any:
        """Check, then call the consumer. Raises `DenyConnection`."""
        if self.consumer is None:
            raise UsageError(f"{type(self).__qualname__} was called, and decorates no consumer")
        self.check(message)
        return self.consumer(message, *args, **kwargs)

    async def _acall(self, message: Message, *args: Any, **kwargs: Any) -> Any:
        return await self(message, *args, **kwargs)

    def check(self, message: Message) -> None:
        """Raise `DenyConnection`, and log it, unless the origin of a handshake is valid."""
        origins = [value for name, value in message.get("headers", ()) if name == b"origin"]
        if not origins:
            return  # not a browser, so nobody's cookies are abused
        origin = b",".join(origins).decode("latin-1")
        parts = _parse(origin)
        if parts is None or not self.allows(parts, message):
            logger.warning(
                "refused the WebSocket %r from a page of %r; if that page is yours, add its host "
                "to ALLOWED_HOSTS, or see CHANNEL_ORIGIN_VALIDATOR",
                message.get("path"),
                origin,
            )
            raise DenyConnection

    def allows(self, origin: SplitResult, message: Message) -> bool:
        """Say whether the handshake `message` may come from a page of `origin`."""
        del message
        return self.valid_origin(origin)

    def valid_origin(self, parsed_origin: SplitResult) -> bool:
        """Do `validate_origin`, unless it is "null", and that is refused."""
        is_null = not parsed_origin.hostname
        return (self.allow_null or not is_null) and self.validate_origin(parsed_origin)

    def validate_origin(self, parsed_origin: SplitResult) -> bool:
        """Say whether pages of an origin may connect; "null" is all path, without a host."""
        return any(matches(parsed_origin, allowed) for allowed in self.get_allowed_origins())

    def get_allowed_origins(self) -> Sequence[str]:
        """Return what is allowed.

        That are hosts ("example.com", ".example.com" with all below it), origins
        ("https://example.com:8443"; without a port, the default one), "null", or "*": all.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} says nothing of what is allowed: "
            "override get_allowed_origins"
        )


class AllowedHostsOnlyOriginValidator(BaseOriginValidator):
    """Lets pages connect whose host is in ALLOWED_HOSTS.

    Where that has "*", only pages of the host that the WebSocket itself was opened to.
    """

    def get_allowed_origins(self) -> Sequence[str]:
        """Return ALLOWED_HOSTS."""
        if settings.DEBUG and not settings.ALLOWED_HOSTS:
            return LOCAL_HOSTS
        return settings.ALLOWED_HOSTS

    def allows(self, origin: SplitResult, message: Message) -> bool:
        """See `BaseOriginValidator.allows`."""
        if "*" not in self.get_allowed_origins():
            return super().allows(origin, message)
        own = _host_of(message)
        return bool(own) and own == split_domain_port(_bracketed(origin))[0]


allowed_hosts_only = AllowedHostsOnlyOriginValidator


def matches(origin: SplitResult, allowed: str) -> bool:
    """Say whether `origin` is what an item of `get_allowed_origins` allows."""
    if allowed == "*":
        return True
    if allowed == "null" or not origin.hostname:
        return allowed == origin.path == "null"
    if "://" not in allowed:
        domain, _ = split_domain_port(_bracketed(origin))
        return bool(domain) and validate_host(domain, [allowed.lower()])
    wanted = _parse(allowed)
    return (
        wanted is not None
        and wanted.scheme == origin.scheme
        and _port(wanted) == _port(origin)
        and validate_host(_bracketed(origin), [_bracketed(wanted)])
    )


def guarded(target: Target) -> Target:
    """Return a target for `websocket.connect` with the project's validator before its consumer."""
    consumer = target.consumer

    def consume(message: Message, **kwargs: Any) -> Any:
        _check(message)
        return consumer(message, **kwargs)

    async def aconsume(message: Message, **kwargs: Any) -> Any:
        _check(message)
        return await consumer(message, **kwargs)

    return replace(target, consumer=aconsume if target.is_async else consume)


def validator_path() -> str | None:
    """Return the dotted path of the project's validator, or None."""
    path: str | None = getattr(settings, "CHANNEL_ORIGIN_VALIDATOR", DEFAULT_VALIDATOR)
    return path


@lru_cache(maxsize=8)
def load_validator(path: str) -> BaseOriginValidator:
    """Return the validator of a dotted path; raises `ConfigurationError` when it is none."""
    found = load(path)
    if not (isinstance(found, type) and issubclass(found, BaseOriginValidator)):
        raise ConfigurationError(
            f"CHANNEL_ORIGIN_VALIDATOR names {path!r}, which is {found!r}; expected a subclass of "
            "BaseOriginValidator"
        )
    return found()


def _check(message: Message) -> None:
    path = validator_path()
    if path is not None:
        load_validator(path).check(message)


def _parse(origin: str) -> SplitResult | None:
    """Return the parts of an origin (RFC 6454), in lower case; None when it is none."""
    try:
        parts = urlsplit(origin.lower())
        _ = parts.port
    except ValueError:
        return None
    if origin == "null":
        return parts
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return parts if plain and parts.scheme and parts.hostname else None


def _port(origin: SplitResult) -> int | None:
    return origin.port or _DEFAULT_PORTS.get(origin.scheme)


def _bracketed(origin: SplitResult) -> str:
    """Return the host as Django writes it: an IPv6 address in brackets."""
    host = origin.hostname or ""
    return f"[{host}]" if ":" in host else host


def _host_of(message: Message) -> str:
    """Return the host that a handshake was sent to; empty when it does not say."""
    headers = dict(message["headers"])
    host = headers.get(b"host", b"")
    if settings.USE_X_FORWARDED_HOST:
        host = headers.get(b"x-forwarded-host", host)
    return split_domain_port(host.decode("latin-1"))[0]


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "CHANNEL_ORIGIN_VALIDATOR":
        load_validator.cache_clear()


setting_changed.connect(_forget)
