"""The layer for one machine: LMDB in shared memory, and a socket to wake each receiver."""

from busway.bus.ipc.layer import IPCChannelLayer

__all__ = ["IPCChannelLayer"]
