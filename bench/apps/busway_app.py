"""Busway's side of the benchmark: the consumers and their routing."""

from busway import Group, Message, route


def accept(message: Message) -> None:
    message.reply_channel.send({"accept": True})


def join(message: Message) -> None:
    Group("all").add(message.reply_channel)
    message.reply_channel.send({"accept": True})


def echo(message: Message) -> None:
    message.reply_channel.send({"text": message["text"]})


async def accept_async(message: Message) -> None:
    message.reply_channel.send({"accept": True})


async def echo_async(message: Message) -> None:
    message.reply_channel.send({"text": message["text"]})


def broadcast(message: Message) -> None:
    """Answer ``"COUNT TAG"`` with COUNT messages to everybody in the group."""
    count, tag = message["text"].split()
    for number in range(int(count)):
        Group("all").send({"text": f"{tag}-{number:03d}"})


routing = [
    route("websocket.connect", accept, path=r"^/(open|trigger|echo/sync)$"),
    route("websocket.connect", join, path=r"^/group$"),
    route("websocket.receive", echo, path=r"^/echo/sync$"),
    route("websocket.receive", broadcast, path=r"^/trigger$"),
]

async_routing = [
    route("websocket.connect", accept_async, path=r"^/(open|echo/async)$"),
    route("websocket.receive", echo_async, path=r"^/echo/async$"),
]
