"""Two layers as one: what belongs to a machine stays on it, the rest goes over the network.

Normal channels (`websocket.receive`) and single-reader ones (`body?x`) are those of the local
layer: the workers of a machine serve the sockets of the same machine, with no network between.
Process-specific channels (`web.reply.x!y`) and groups are on the remote layer, so that every
socket can be reached from every machine.

Ordinary members of a group get its messages over the remote layer too, so a channel is read from
both; between what was sent to it and what was sent to its groups there is no order.
"""

from typing import Any

from busway.bus.errors import ConfigurationError, LayerClosed
from busway.bus.layer import ChannelLayer
from busway.bus.local_and_remote_receiver import LocalAndRemoteReceiver
from busway.bus.receiver import Receiver
from busway.bus.statistics import GroupSize, Shard, Statistics, total


class LocalAndRemoteChannelLayer(ChannelLayer):
    """A layer made of one on this machine and one that other machines share."""

    def __init__(self, local: ChannelLayer, remote: ChannelLayer) -> None:
        """Join two layers; they are closed with this one.

        Raises `ConfigurationError` unless both have the same limits.
        """
        for option in ("message_size", "group_expiry"):
            ours, theirs = getattr(local, option), getattr(remote, option)
            if ours != theirs:
                raise ConfigurationError(
                    f"{option} is {ours!r} for the local layer and {theirs!r} for the remote one; "
                    "give both the same"
                )
        super().__init__(message_size=local.message_size, group_expiry=local.group_expiry)
        self.policies = local.policies
        self.blocks = local.blocks or remote.blocks
        self.local = local
        self.remote = remote

    def receiver(self) -> Receiver:
        """Return a new reader of both layers, for one thread or one event loop."""
        if self._closed:
            raise LayerClosed("channel layer")
        readers = self.local.receiver(), self.remote.receiver()
        return LocalAndRemoteReceiver(*readers, self.message_size)

    def group_channels(self, group: str) -> list[str]:
        """See `ChannelLayer.group_channels`."""
        return self.remote.group_channels(group)

    async def agroup_channels(self, group: str) -> list[str]:
        """See `ChannelLayer.agroup_channels`."""
        return await self.remote.agroup_channels(group)

    def peek(self, channel: str) -> dict[str, Any] | None:
        """See `ChannelLayer.peek`: the local layer's message comes first."""
        found = self.local.peek(channel)
        return self.remote.peek(channel) if found is None else found

    async def apeek(self, channel: str) -> dict[str, Any] | None:
        """See `ChannelLayer.apeek`."""
        found = await self.local.apeek(channel)
        return await self.remote.apeek(channel) if found is None else found

    def flush(self) -> None:
        """Drop everything on this machine, and everything that machines share."""
        self.local.flush()
        self.remote.flush()
        self._local.clear()

    async def aflush(self) -> None:
        """See `flush`."""
        await self.local.aflush()
        await self.remote.aflush()
        self._local.clear()

    def statistics(self, channel: str | None = None) -> Statistics:
        """Return the counts of both layers together."""
        return total([self.local.statistics(channel), self.remote.statistics(channel)])

    async def astatistics(self, channel: str | None = None) -> Statistics:
        """See `statistics`."""
        local = await self.local.astatistics(channel)
        return total([local, await self.remote.astatistics(channel)])

    def channel_statistics(self) -> dict[str, Statistics]:
        """See `ChannelLayer.channel_statistics`; a channel of both layers is counted together."""
        found = self.local.channel_statistics()
        for name, counts in self.remote.channel_statistics().items():
            found[name] = total([found[name], counts]) if name in found else counts
        return found

    def group_sizes(self) -> dict[str, GroupSize]:
        """See `ChannelLayer.group_sizes`."""
        return self.remote.group_sizes()

    def shards(self) -> list[Shard]:
        """See `ChannelLayer.shards`."""
        return self.local.shards() + self.remote.shards()

    def close(self) -> None:
        """See `ChannelLayer.close`."""
        super().close()
        self.local.close()
        self.remote.close()
