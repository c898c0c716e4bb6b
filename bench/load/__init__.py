"""The load generator: its own process, raw sockets, frames encoded beforehand, every answer checked."""
