"""A worker as a process of its own: `python worker_process.py LAYER-URL ROUTING THREADS`."""

import asyncio
import logging
import os
import random
import sys
import time
from contextlib import closing

from busway import Channel, Message, Router, Worker, route
from busway.app.context import current_layer
from busway.bus.urls import open_layer


def echo(message: Message) -> None:
    """Answer with what came, and who answers."""
    message.reply_channel.send({"n": message["n"], "pid": os.getpid()})


def slow(message: Message) -> None:
    """Say that it has begun, at once, and end when told to."""
    begun = {"begun": message["n"], "pid": os.getpid()}
    message.reply_channel.send(begun, immediately=True)
    if message["n"] == 0:
        current_layer().receive([message["until"]], 60.0)
    echo(message)


def stuck(message: Message) -> None:
    """Say that it has begun, and never end."""
    message.reply_channel.send({"begun": message["n"]}, immediately=True)
    while True:
        time.sleep(60)


def fork(message: Message) -> None:
    """Answer, and in one case in two processes."""
    if message["n"] == 5:
        os.fork()
    echo(message)


async def afork(message: Message) -> None:
    """Do `fork` on the event loop."""
    fork(message)


def frame(message: Message) -> None:
    """Take some time, then answer with the frame's number."""
    time.sleep(random.random() * 0.002)
    message.reply_channel.send({"order": message["order"]})


async def aframe(message: Message) -> None:
    """Take some time, then answer with the frame's number."""
    await asyncio.sleep(random.random() * 0.002)
    Channel(str(message.reply_channel)).send({"order": message["order"]})


ROUTINGS = {
    "echo": [route("jobs", echo)],
    "slow": [route("jobs", slow)],
    "stuck": [route("jobs", stuck)],
    "fork": [route("jobs", fork)],
    "async fork": [route("jobs", afork)],
    "frames": [route("websocket.receive", frame)],
    "async frames": [route("websocket.receive", aframe)],
    "mixed frames": [
        route("websocket.receive", aframe, order="[02468]$"),
        route("websocket.receive", frame),
    ],
}


def main() -> None:
    """Run the worker."""
    logging.basicConfig(level=logging.INFO)
    url, routing, threads = sys.argv[1:]
    with closing(open_layer(url)) as layer:
        Worker(
            layer,
            Router(ROUTINGS[routing]),
            threads=int(threads),
            ready=lambda: print("ready", flush=True),  # noqa: T201
        ).run()


if __name__ == "__main__":
    main()
