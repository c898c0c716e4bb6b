"""A process of its own for tests: `python -m bus.redis.party flow|sleep URL FILE`.

It prints what it sees until it gets SIGTERM.
"""

import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from bus.redis.traffic import CHANNEL, Traffic
from busway.bus.errors import BusError
from busway.bus.redis import RedisChannelLayer


class Account(msgspec.Struct):
    """What a process has done, and whether anything went wrong."""

    sent: list[str]
    handled: list[str]


def flow(url: str, path: Path, stop: threading.Event) -> None:
    """Let messages flow, and say when everybody goes on; then write an `Account`."""
    with Traffic(url) as traffic:
        while not stop.is_set():
            with suppress(AssertionError):
                traffic.goes_on(5)
                print("goes on", time.time())  # noqa: T201
        traffic.end(wait=False)
        account = Account(
            [each for writer in traffic.writers for each in writer.ids],
            [each for worker in traffic.workers for each in worker.ids],
        )
    path.write_bytes(msgspec.json.encode(account))
    print("account")  # noqa: T201


def sleep(url: str, path: Path, stop: threading.Event) -> None:
    """Say how long each message took that comes to a sleeper."""
    del path
    layer = RedisChannelLayer.from_url(url)
    while not stop.is_set():
        with suppress(BusError):
            _, message = layer.receive([CHANNEL], timeout=60)
            if message is not None:
                print("took", time.time() - message["sent"])  # noqa: T201
    layer.close()


def main() -> None:
    """Do what the command line says."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    what, url, path = sys.argv[1:]
    {"flow": flow, "sleep": sleep}[what](url, Path(path), stop)


if __name__ == "__main__":
    main()
