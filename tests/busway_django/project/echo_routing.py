"""Consumers for the tests of the test tools."""

from asgiref.sync import sync_to_async
from django.db import transaction

from busway.app.consumers import JsonWebsocketConsumer
from busway.app.exceptions import ConsumeLater, DenyConnection
from busway.app.message import Message
from busway.app.routing import route, route_class
from busway.django import Channel, Group
from busway_django.project.models import Note


def echo(message: Message) -> str:
    """Send the content back."""
    content = {key: value for key, value in message.items() if key != "reply_channel"}
    message.reply_channel.send(content)
    return "returned"


async def aecho(message: Message) -> str:
    """Send the content back, from async code."""
    content = {key: value for key, value in message.items() if key != "reply_channel"}
    await message.reply_channel.asend(content)
    return "returned"


async def anote(message: Message) -> None:
    """Store a note with the async database."""
    await Note.objects.acreate(text=message["text"])
    count = await sync_to_async(Note.objects.count)()
    await message.reply_channel.asend({"count": count})


def note(message: Message) -> None:
    """Store a note, and tell others when that is committed."""
    Note.objects.create(text=message["text"])
    transaction.on_commit(lambda: Channel("noted").send({"text": message["text"]}))


def fail(message: Message) -> None:
    """Send, then fail."""
    message.reply_channel.send({"sent": True})
    Group("all").send({"sent": True})
    raise ValueError("the consumer is broken")


async def afail(message: Message) -> None:
    """Send, then fail, from async code."""
    await message.reply_channel.asend({"sent": True})
    raise ValueError("the consumer is broken")


def later(message: Message) -> None:
    """Put the message back once."""
    if "busway.tries" not in message:
        message.reply_channel.send({"sent": True})
        raise ConsumeLater(delay=0.01)
    message.reply_channel.send({"tries": message["busway.tries"]})


def deny(message: Message) -> None:
    """Refuse a socket."""
    raise DenyConnection


def silent(message: Message) -> None:
    """Neither accept nor refuse."""


def greet(message: Message) -> None:
    """Accept with a frame."""
    message.reply_channel.send({"text": "hello"})


class Chat(JsonWebsocketConsumer):
    """Answers with what it got, and where."""

    groups = ("chat",)

    def receive(self, content: object, room: str = "", **kwargs: object) -> None:
        """Answer."""
        self.send({"room": room, "got": content})


routes = [
    route("jobs", echo),
    route("ajobs", aecho),
    route("notes", note),
    route("anotes", anote),
    route("fails", fail),
    route("afails", afail),
    route("later", later),
    route("websocket.connect", deny, path=r"^/denied/"),
    route("websocket.connect", silent, path=r"^/silent/"),
    route("websocket.connect", greet, path=r"^/greeted/"),
    route_class(Chat, path=r"^/chat/(?P<room>\w+)/"),
]
