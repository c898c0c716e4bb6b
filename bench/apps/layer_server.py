"""A channel layer alone, without servers and consumers: it sends to itself and receives.

``python layer_server.py PORT URL`` serves ``/ready`` and ``/MODE?seconds=N``, where MODE is
``single`` (send one, receive it, and again) or ``many`` (50 under way at a time).
"""

# channels_redis lives in the peers' own environment, which type checkers do not see.
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANY = 50
_MESSAGE = {"type": "bench", "text": "x" * 64}

#: Sends and receives for so many seconds; returns how many messages.
Mode = Callable[[float], int]


def busway(url: str) -> Mapping[str, Mode]:
    """Busway: plain functions; what is sent together goes in one exchange."""
    from busway.bus.operations import Send  # noqa: PLC0415
    from busway.bus.urls import open_layer  # noqa: PLC0415

    layer = open_layer(url)
    channel = layer.new_channel("bench?")

    def single(seconds: float) -> int:
        count, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            layer.send(channel, _MESSAGE)
            found, _ = layer.receive([channel], timeout=5)
            count += found == channel
        return count

    def many(seconds: float) -> int:
        count, until = 0, time.perf_counter() + seconds
        with layer.receiver() as receiver:
            while time.perf_counter() < until:
                sends = [Send(channel, _MESSAGE) for _ in range(MANY)]
                count += len(receiver.exchange(sends, (), [channel], MANY).deliveries)
        return count

    return {"single": single, "many": many}


def channels_redis(url: str) -> Mapping[str, Mode]:
    """channels_redis: coroutines; what is under way together runs in tasks."""
    from channels_redis.core import RedisChannelLayer  # noqa: PLC0415

    async def run(seconds: float, at_once: int) -> int:
        layer = RedisChannelLayer(hosts=[url], capacity=10 * MANY)
        channel = await layer.new_channel()
        count, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            await asyncio.gather(*(layer.send(channel, _MESSAGE) for _ in range(at_once)))
            await asyncio.gather(*(layer.receive(channel) for _ in range(at_once)))
            count += at_once
        await layer.close_pools()
        return count

    async def one(seconds: float) -> int:
        layer = RedisChannelLayer(hosts=[url])
        channel = await layer.new_channel()
        count, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            await layer.send(channel, _MESSAGE)
            await layer.receive(channel)
            count += 1
        await layer.close_pools()
        return count

    return {
        "single": lambda seconds: _run(one(seconds)),
        "many": lambda seconds: _run(run(seconds, MANY)),
    }


def _run(steps: Any) -> int:
    import uvloop  # noqa: PLC0415  (as under uvicorn)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count: int = runner.run(steps)
        return count


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other."""

    modes: Mapping[str, Mode] = {}

    def do_GET(self) -> None:
        """Measure, and tell the result as JSON."""
        parts = urlsplit(self.path)
        answer = {}
        if mode := self.modes.get(parts.path[1:]):
            start = time.perf_counter()
            count = mode(float(parse_qs(parts.query)["seconds"][0]))
            answer = {"messages": count, "seconds": time.perf_counter() - start}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    port, url, which = sys.argv[1:]
    Handler.modes = {"busway": busway, "channels": channels_redis}[which](url)
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
