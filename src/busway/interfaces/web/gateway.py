"""The interface server without a server: its connections, its bus, its time, its counts."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from busway.bus.errors import BusError
from busway.bus.layer import ChannelLayer
from busway.bus.names import new_process_prefix
from busway.bus.operations import Delivery
from busway.interfaces.web.access import AccessLog
from busway.interfaces.web.bus import Bus
from busway.interfaces.web.frames import encode_data
from busway.interfaces.web.options import WebOptions
from busway.interfaces.web.replies import ReplyError, WebSocketReply, parse_websocket_reply
from busway.interfaces.web.states import CONNECTING
from busway.interfaces.web.timers import Wheel
from busway.interfaces.web.websocket import WebSocketConnection

logger = logging.getLogger("busway.web")


class Connection(Protocol):
    """What the gateway knows of a WebSocket or an HTTP request."""

    channel: str

    def deliver(self, message: dict[str, Any]) -> None:
        """Carry out a worker's reply."""

    def shut_down(self) -> None:
        """End because the server stops."""


class Greedy(Protocol):
    """Something that is not read until the bus has taken what it sent."""

    def go_on(self) -> None:
        """Be told that the tick is over."""


class Gateway:
    """Joins the connections of one process to the bus.

    Belongs to one event loop: `start` it there, and use it from there only.
    """

    def __init__(self, layer: ChannelLayer, options: WebOptions | None = None) -> None:
        """Make a gateway to `layer`. The layer is not closed with it."""
        self.layer = layer
        self.options = options or WebOptions()
        self.prefix = new_process_prefix("web.reply")
        """The reply channels of all connections begin with it."""
        self.connections: dict[str, Connection] = {}
        self._members: set[str] = set()
        """Channels of those that are, or have been, in a group."""
        self.drops: Counter[str] = Counter()
        """What was refused, cut or dropped, by reason."""
        self.unwritten: list[WebSocketConnection] = []
        """Connections that have frames to write at the end of this tick."""
        self.greedy: list[Greedy] = []
        """Connections that have sent so much in this tick that they are not read any more."""
        self.log = AccessLog(enabled=self.options.access_log)
        self.wheel = Wheel()
        self.bus = Bus(layer, (self.prefix,), self._deliver, self._finish, self._join)
        self.running = False
        self._ids = 0
        self._discarding: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin, on the running event loop. Starting twice is harmless."""
        if self.running:
            return
        loop = asyncio.get_running_loop()
        self.time = loop.time
        self._loop = loop
        self.bus.start()
        self._tick_timer = loop.call_later(_TICK, self._tick)
        self.running = True

    async def stop(self, timeout: float) -> None:
        """End every connection and send what is left to the bus, for at most `timeout` seconds.

        What found no room by then is lost; it is counted as "unsent at shutdown" and logged.
        """
        if not self.running:
            return
        for connection in list(self.connections.values()):
            connection.shut_down()
        deadline = self.time() + timeout
        while not self.bus.idle and self.time() < deadline:
            await self.bus.flushed()
            await asyncio.sleep(_RETRY)
        self.running = False
        self._tick_timer.cancel()
        if lost := await self.bus.stop():
            self.drops["unsent at shutdown"] += lost
            logger.error(
                "%d messages found no room on the bus and were lost at shutdown; "
                "add workers, or raise the capacity or shutdown_timeout",
                lost,
            )

    # -- the books ----------------------------------------------------------------------

    def register(self, connection: Connection) -> bool:
        """Give `connection` its reply channel; False when there are too many connections."""
        limit = self.options.max_connections
        if limit is not None and len(self.connections) >= limit:
            return False
        self._ids += 1
        channel = connection.channel = f"{self.prefix}{self._ids:x}"
        self.connections[channel] = connection
        return True

    def unregister(self, connection: Connection) -> None:
        """Take `connection` off the books and out of its groups."""
        channel = connection.channel
        self.connections.pop(channel, None)
        if channel in self._members:
            self._members.discard(channel)
            self.bus.leave(channel)

    def _join(self, channels: Sequence[str]) -> None:
        """Note which connections are in a group now; those that had ended leave it at once."""
        for channel in channels:
            if channel in self.connections:
                self._members.add(channel)
            else:
                self.bus.leave(channel)  # who added it could not know

    def discard(self, channel: str) -> None:
        """Take what waits on a single-reader channel off the bus: nobody is going to read it."""
        task = self._loop.create_task(self._discard(channel))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _discard(self, channel: str) -> None:
        with suppress(BusError):  # it expires in the end
            while (await self.layer.areceive([channel]))[0] is not None:
                pass

    def count(self, reason: str) -> None:
        """Count something that was refused, cut or dropped."""
        self.drops[reason] += 1

    # -- deliveries ---------------------------------------------------------------------

    def _deliver(self, inbox: deque[Delivery], budget: int) -> None:
        """Hand deliveries to whom they are for, the oldest first: see `Bus`."""
        connections = self.connections
        while inbox and budget > 0:
            delivery = inbox.popleft()
            if members := delivery.members:
                budget -= len(members)
                self._fan_out(delivery)
                continue
            budget -= 1
            connection = connections.get(delivery.channel)
            if connection is None:
                self.drops["late reply"] += 1
            else:
                connection.deliver(delivery.message)

    def _finish(self) -> None:
        """End a tick: write what its deliveries came to, with a system call a connection."""
        if self.unwritten:
            unwritten, self.unwritten = self.unwritten, []
            for connection in unwritten:
                connection.flush()
        if self.greedy:
            greedy, self.greedy = self.greedy, []
            for sender in greedy:
                sender.go_on()

    def _fan_out(self, delivery: Delivery) -> None:
        """Hand a group message to this process's members; it is parsed and encoded once."""
        message, connections = delivery.message, self.connections
        reply: WebSocketReply | None = None
        frame = None
        try:
            reply = parse_websocket_reply(message)
            if reply.data is not None:
                frame = encode_data(reply.data)
        except ReplyError as error:
            logger.debug("not for WebSockets: %s", error)
        for member in delivery.members:
            connection = connections.get(member)
            if connection is None:
                continue  # it is about to leave
            if not isinstance(connection, WebSocketConnection):
                connection.deliver(message)
            elif connection.state is CONNECTING:
                # Whether it is let in is for its consumer to say, not for who sends to a group.
                self.drops["group message before accept"] += 1
            elif reply is not None:
                connection.apply(reply, frame)
            else:
                connection.deliver(message)

    # -- time ---------------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(_TICK, self._tick)
        now = self.time()
        due = self.wheel.due(now)
        try:
            while due:
                due.pop().expire(now)
        finally:
            for item in due:  # an error of one is not to cost the others their deadlines
                self.wheel.set(item, now)


_TICK = 0.25
"""Seconds between two looks at the deadlines."""

_RETRY = 0.01
"""Seconds between two attempts to send what is left, when stopping."""
