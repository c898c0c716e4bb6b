"""Consumers for the tests of this folder."""

import os
import random
import time
from pathlib import Path

from busway import Group, Message, route

EVERYBODY = Group("everybody")


def accept(message: Message) -> None:
    """Let a socket in."""
    message.reply_channel.send({"accept": True})


def answer_after_a_while(message: Message) -> None:
    """Echo, after a random time; say so when another worker has a frame of the same socket."""
    mine = Path(os.environ["IN_HANDS"]) / message.reply_channel.name.replace("/", "_")
    try:
        os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        message.reply_channel.send({"text": "two at a time"})
        return
    if random.random() < 0.02:
        time.sleep(random.random() * 0.005)
    mine.unlink()
    message.reply_channel.send({"text": message["text"]})


def echo(message: Message) -> None:
    """Send a frame back."""
    message.reply_channel.send({"text": message["text"]})


def join(message: Message) -> None:
    """Let a socket in, and make it one of everybody."""
    message.reply_channel.send({"accept": True})
    EVERYBODY.add(message.reply_channel)


def tell_everybody(message: Message) -> None:
    """Say something to all; answers to it ("!…") come back to who gave them."""
    if message["text"].startswith("!"):
        message.reply_channel.send({"text": message["text"]})
    else:
        EVERYBODY.send({"text": message["text"]})


slow = [
    route("websocket.connect", accept),
    route("websocket.receive", answer_after_a_while),
]
echoing = [route("websocket.connect", accept), route("websocket.receive", echo)]
broadcast = [route("websocket.connect", join), route("websocket.receive", tell_everybody)]
