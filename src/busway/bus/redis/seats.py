"""A receiver's places at the shards, and what it asks there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from busway.bus.operations import Delivery, Operation
from busway.bus.redis import packing, wire
from busway.bus.redis.connections import Link, LinkBroken
from busway.bus.redis.held import Bundle
from busway.bus.redis.links import Links
from busway.bus.redis.orders import Order
from busway.bus.redis.scripts import script
from busway.bus.redis.shards import Shard

if TYPE_CHECKING:
    from busway.bus.redis.layer import RedisChannelLayer

_EXCHANGE = script("exchange")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What `exchange` was asked, made ready."""

    operations: Sequence[Operation]
    returned: Sequence[Delivery]
    done: Sequence[Delivery]
    limit: int
    wake_below: int
    hold: bool
    listening: bool


NOTHING = Asked((), (), (), 0, 0, False, False)


class Call(msgspec.Struct, gc=False):
    """An exchange with one shard."""

    seat: "Seat"
    asked: Asked
    batch: packing.Batch | None
    request: wire.Request
    arguments: Sequence[bytes]
    life: int
    """In which life of its process it was made."""
    asked_at: float
    """When, by `time.monotonic`."""
    link: Link | None = None
    """Where it was sent: the shard may be elsewhere when the reply comes. None: it was not."""

    @property
    def answering(self) -> Link:
        """The connection on which the reply comes. Raises `LinkBroken` when there is none."""
        if self.link is None:
            raise LinkBroken("the request was not sent")
        return self.link


class Mark(NamedTuple):
    """What a shard has to know before more is begun: all in these bundles, up to a place."""

    seat: "Seat"
    place: int
    bundles: list[Bundle]


class Seat:
    """A receiver's place at one shard."""

    def __init__(
        self, shard: Shard, layer: "RedisChannelLayer", links: Links, receiver: str
    ) -> None:
        self.shard = shard
        self.bell = shard.key + b"bell:" + receiver.encode()
        """The name by which the shard rings."""
        self._links = links
        self.number = 0
        """Requests made."""
        self.epoch = layer.epoch(shard)
        self.life = 0
        """In which life of the layer's process the shard got to know the receiver; 0: in none."""
        self.subscription = ""
        """The subscription that the receiver is registered with, or empty."""
        self.channels: Sequence[str] = ()
        self.marked = 0
        """Up to which place the shard counts messages as begun."""
        self.order = Order()
        """What the receiver may be handed while it sleeps."""
        self.due = 0.0
        """When the shard's next delayed message is due: seconds since the epoch, or 0."""

    @property
    def link(self) -> Link:
        """The connection to the shard's server."""
        return self._links.to(self.shard)

    def send(self, call: Call) -> None:
        """Send a request."""
        if call.request.awaits:
            call.request.awaits = self.order.awaits  # something may have come since it was made
        arguments = (call.request.encode(), *call.arguments)
        call.link = None
        call.link = self.link
        call.link.send(_EXCHANGE, self.shard.key, *arguments)

    def run(self, call: Call) -> Any:
        """Send a request and return the reply; the script may have been forgotten."""
        return self.link.run(_EXCHANGE, self.shard.key, call.request.encode(), *call.arguments)
