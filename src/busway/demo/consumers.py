"""The chat. Each function handles one message from a browser, in whichever worker is free.

Try it: change something here while the page is open, and save. The workers start anew with your
code, and the page stays connected, for its socket is held by another process.
"""

import os
from typing import Annotated
from urllib.parse import parse_qs

import msgspec

from busway import Channel, Group, Message
from busway.demo.store import Refused, Store

store = Store()
LOBBY = Group("chat.lobby")


class Say(msgspec.Struct, tag="say"):
    """`{"type": "say", "text": …, "ref": …}`: tell everybody in the room."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, pattern=r"\S")]
    ref: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Ping(msgspec.Struct, tag="ping"):
    """`{"type": "ping"}`: I am still here."""


read = msgspec.json.Decoder(Say | Ping).decode


def enter_lobby(message: Message) -> None:
    """Somebody looks for a room: show the rooms, now and whenever they change."""
    LOBBY.add(message.reply_channel)
    tell(message.reply_channel, "rooms", rooms=store.rooms())


def connect(message: Message, room: str) -> None:
    """Somebody opens a room: let them in, show what was said, tell the others."""
    name = parse_qs(message["query_string"].decode(errors="replace")).get("name", [""])[0]
    try:
        newcomer = store.join(room, message.reply_channel.name, name)
    except Refused as refused:
        tell(message.reply_channel, "refused", reason=str(refused))
        message.reply_channel.send({"close": 4001})
        return
    # At once, before the history is read: what is said meanwhile comes twice rather than never.
    group(room).add(message.reply_channel, immediately=True)
    tell(message.reply_channel, "welcome", history=store.history(room))
    tell_people(room, joined=name if newcomer else None)


def receive(message: Message, room: str) -> None:
    """Somebody says something."""
    socket = message.reply_channel.name
    try:
        request = read(message["text"])
    except (KeyError, RecursionError, msgspec.DecodeError) as error:
        tell(message.reply_channel, "error", error=f"That was not understood: {error}")
        return
    if not store.touch(socket):
        message.reply_channel.send({"close": 4000, "reason": "please connect again"})
        return
    match request:
        case Say(text, ref):
            tell(group(room), "said", said=store.say(socket, text.strip(), ref))
        case Ping():
            group(room).add(message.reply_channel)
            tell(message.reply_channel, "pong")
            for changed in store.clean_up():
                tell_people(changed)


def disconnect(message: Message, room: str) -> None:
    """Somebody closed the page."""
    tell_people(room, left=store.leave(message.reply_channel.name))


def group(room: str) -> Group:
    return Group(f"chat.room.{room}")


def tell_people(room: str, **news: str | None) -> None:
    """Tell a room who is there now, and the lobby where everybody is."""
    tell(group(room), "people", people=store.people(room), **news)
    tell(LOBBY, "rooms", rooms=store.rooms())


def tell(to: Channel | Group, kind: str, **fields: object) -> None:
    """Send JSON, and which worker it comes from."""
    text = msgspec.json.encode({"type": kind, "worker": os.getpid(), **fields}).decode()
    to.send({"text": text})
