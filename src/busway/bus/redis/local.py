"""The Redis layer for what machines share, beside an IPC layer for what stays on each."""

import os
from collections.abc import Sequence
from typing import Any

from busway.bus.ipc import IPCChannelLayer
from busway.bus.ipc.layer import DEFAULT_SIZE
from busway.bus.local_and_remote import LocalAndRemoteChannelLayer
from busway.bus.redis.layer import DEFAULT_URL, RedisChannelLayer
from busway.bus.redis.urls import options_of

_MARK = "local+"


class RedisLocalChannelLayer(LocalAndRemoteChannelLayer):
    """Normal channels on this machine's IPC bus, process-specific ones and groups on Redis.

    The workers of a machine serve its own sockets, and reach those of all machines.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        local: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        size: int = DEFAULT_SIZE,
        prefix: str = "busway",
        slots: int | None = None,
        connection_kwargs: dict[str, Any] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Use the bus `local` of this machine, and the one at `url`.

        Args:
            url: see `RedisChannelLayer`, as are `prefix`, `slots`, `connection_kwargs` and
                `sentinel_kwargs`.
            local: name of the IPC bus, None: that of the current directory; see
                `IPCChannelLayer`, as for `directory` and `size`.
            options: those of `ChannelLayer`, for both.

        Raises `ConfigurationError`, and `LayerUnavailable` when this machine has no room.
        """
        # Redis first: nothing is opened by it, and much can be wrong.
        remote = RedisChannelLayer(
            url,
            prefix=prefix,
            slots=slots,
            connection_kwargs=connection_kwargs,
            sentinel_kwargs=sentinel_kwargs,
            **options,
        )
        super().__init__(IPCChannelLayer(local, directory=directory, size=size, **options), remote)

    @classmethod
    def url_options(cls, url: str) -> dict[str, Any]:
        """Return the options of `local+redis://HOST/DB?local=NAME&prefix=…&capacity=…`.

        What stands behind "local+" is any URL of `RedisChannelLayer`.
        """
        return options_of(url.removeprefix(_MARK), local=str, directory=str, size=int)

    @classmethod
    def check_options(
        cls,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        local: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        size: int = DEFAULT_SIZE,
        prefix: str = "busway",
        slots: int | None = None,
        connection_kwargs: dict[str, Any] | None = None,
        sentinel_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """See `ChannelLayer.check_options`."""
        IPCChannelLayer.check_options(local, directory, size, **options)
        RedisChannelLayer.check_options(
            url,
            prefix=prefix,
            slots=slots,
            connection_kwargs=connection_kwargs,
            sentinel_kwargs=sentinel_kwargs,
            **options,
        )
