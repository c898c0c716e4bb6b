"""A writer of the ledger: `python -m promises.writer HOST PORT FRAMES`, on a host of a network.

It sends numbered frames on a few WebSockets, and keeps account of their echoes.
"""

import sys
import time

from promises.sockets import Client, crowd, frame

SOCKETS = 8
WINDOW = 30
"""Frames of a socket that are under way at a time."""

STALLED = 3.0
"""Seconds without an echo after which what is under way is taken for lost."""

PATIENCE = 120.0


class Account:
    """What one socket has sent, and got back."""

    def __init__(self, client: Client, frames: int) -> None:
        self.client = client
        self.frames = frames
        self.sent = 0
        self.next = 0
        """The number that should come next."""
        self.lost: set[int] = set()
        """Numbers that were skipped. One that was in a worker's hands may come yet."""
        self.doubled = 0
        self.heard = time.monotonic()

    def send(self) -> None:
        """Fill the window; when nothing comes any more, begin a new one."""
        start = self.next
        if self.sent > self.next and time.monotonic() > self.heard + STALLED:
            start, self.heard = self.sent, time.monotonic()
        # The last number is sent again until it is answered: so it is known what is lost.
        if start == self.frames:
            self.client.send(frame(str(self.frames - 1)))
        end = min(self.frames, start + WINDOW)
        if self.sent < end:
            data = b"".join(frame(str(number)) for number in range(self.sent, end))
            assert self.client.send(data) == len(data)
            self.sent = end

    def read(self) -> int:
        """Take note of what came; returns how many numbers are settled."""
        before = self.next
        for text in self.client.received:
            number = int(text)
            if number >= self.next:
                self.lost.update(range(self.next, number))
                self.next = number + 1
            elif number in self.lost:
                self.lost.remove(number)
            elif number != self.frames - 1:
                self.doubled += 1
        if self.client.received:
            self.heard = time.monotonic()
            self.client.received.clear()
        return self.next - before


def main() -> None:
    """Do what the command line says, and print the account."""
    host, port, total = sys.argv[1:]
    frames = int(total) // SOCKETS
    with crowd((host, int(port)), SOCKETS) as sockets:
        accounts = [Account(client, frames) for client in sockets.clients.values()]
        print("open")  # noqa: T201
        settled = 0
        said = 0.0

        def pump() -> bool:
            nonlocal settled, said
            for account in accounts:
                settled += account.read()
                if account.next < frames:
                    account.send()
            if time.time() > said + 0.1:
                said = time.time()
                print("settled", settled, "at", said)  # noqa: T201
            return settled == frames * SOCKETS

        sockets.read_until(pump, PATIENCE)
        lost = sum(len(account.lost) for account in accounts)
        doubled = sum(account.doubled for account in accounts)
        print(f"lost {lost} doubled {doubled}")  # noqa: T201


if __name__ == "__main__":
    main()
