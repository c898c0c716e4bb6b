"""The load generator: raw sockets in a process of its own, and every answer checked."""
