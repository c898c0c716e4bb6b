"""Private Redis and Valkey servers for tests, on free ports, and hosts of a network of their own.

Everything here is a context manager that leaves nothing behind: no process, no file, no port. The
fixtures are in `tests/conftest.py`.
"""
