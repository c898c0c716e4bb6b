"""Receivers for threads that come and go."""

from collections import deque
from contextlib import suppress

from busway.bus.errors import BusError
from busway.bus.layer import ChannelLayer
from busway.bus.receiver import Receiver


class Receivers:
    """Idle receivers of a layer: at most as many as were ever used at a time. Thread-safe."""

    def __init__(self, layer: ChannelLayer) -> None:
        self._layer = layer
        self._idle: deque[Receiver] = deque()
        self._closed = False

    def take(self) -> Receiver:
        """Return a receiver for one thread; give it back after.

        Raises `LayerClosed`, and `LayerUnavailable` when the layer has no room for one.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._layer.receiver()

    def give_back(self, receiver: Receiver, *, reuse: bool) -> None:
        """Take `receiver` back; without `reuse` it is closed."""
        if reuse and not self._closed:
            self._idle.append(receiver)
        else:
            with suppress(BusError):
                receiver.close()

    def abandon(self) -> None:
        """Forget the receivers that a fork has copied: they are the parent's."""
        while self._idle:
            self._idle.pop().abandon()

    def close(self) -> None:
        """Close the idle receivers, and those in use when they are given back."""
        self._closed = True
        while self._idle:
            self.give_back(self._idle.pop(), reuse=False)
