"""Opens and closes until SIGTERM: `python -m promises.churn layers URL` or `sockets HOST PORT`."""

import asyncio
import signal
import sys
import threading
from itertools import count

from busway.bus.redis import RedisChannelLayer
from promises.sockets import crowd, frame

SOCKETS = 20


def use_layer(url: str) -> None:
    """Open a layer and receivers, in sync and async code, use them and close them."""
    layer = RedisChannelLayer(url)
    name = layer.new_channel("churn?")
    layer.send(name, {"n": 1})
    assert layer.receive([name]) == (name, {"n": 1})
    readers = [layer.receiver() for _ in range(3)]
    for reader in readers:
        assert reader.exchange((), (), [name], 1, wake_below=1).deliveries == []
    asyncio.run(use_asynchronously(layer, name))
    for reader in readers:
        reader.close()
    layer.close()


async def use_asynchronously(layer: RedisChannelLayer, name: str) -> None:
    """Receive nothing, be cancelled, and receive something."""
    assert await layer.areceive([name], timeout=0.01) == (None, None)
    waits = asyncio.create_task(layer.areceive([name], timeout=None))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    await layer.asend(name, {"n": 2})
    assert (await layer.areceive([name], timeout=5))[1] == {"n": 2}


def use_sockets(host: str, port: str) -> None:
    """Open WebSockets, get an answer on each and close them."""
    with crowd((host, int(port)), SOCKETS) as sockets:
        clients = list(sockets.clients.values())
        for client in clients:
            client.send(frame("hello"))
        sockets.read_until(lambda: all(client.received for client in clients))


def main() -> None:
    """Do what the command line says."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    what, *where = sys.argv[1:]
    for times in count(1):
        if what == "layers":
            use_layer(*where)
        else:
            use_sockets(*where)
        print("times", times)  # noqa: T201
        if stop.is_set():
            break


if __name__ == "__main__":
    main()
