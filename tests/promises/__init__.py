"""What Busway promises, seen on the whole service: real processes, real sockets, real load.

Each has a short form in the suite; `BUSWAY_SOAK=long` runs the long one.
"""
