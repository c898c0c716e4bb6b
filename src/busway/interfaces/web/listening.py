"""Listening sockets. Who runs a server owns them, so that they can outlive it."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

from busway.bus.errors import ConfigurationError
from busway.interfaces.web.options import WebOptions

BACKLOG = 2048
"""Connections that may wait in the kernel to be accepted."""

_Address = tuple[Any, ...]


def listen(options: WebOptions) -> socket.socket:
    """Return the one listening socket that `options` describe.

    Raises `ConfigurationError` when it is not possible.
    """
    if options.fd is not None:
        return adopt(options.fd, options.backlog)
    if options.unix_socket is not None:
        return listen_unix(Path(options.unix_socket), options.backlog)
    if not options.reuse_port:
        return listen_tcp(options.host, options.port, backlog=options.backlog)[0]
    # The others on the port are meant to be there, so it is not tried whether it is free.
    family, address = _resolve(options.host, options.port)
    try:
        return _listen_at(family, address, options.backlog, shared=True)
    except OSError as error:
        raise ConfigurationError(_explain(error, options.host, options.port)) from error


def listen_tcp(
    host: str, port: int, count: int = 1, *, backlog: int = BACKLOG
) -> list[socket.socket]:
    """Return `count` sockets that listen on `host` (a name or an IPv4 or IPv6 address) and `port`.

    Port 0 takes a free one. Several sockets share the port (SO_REUSEPORT) and the kernel spreads
    connections over them; where it cannot, one socket is returned for all to accept from.

    Raises `ConfigurationError` when the address is unknown, not allowed or in use.
    """
    family, address = _resolve(host, port)
    shared = count > 1 and hasattr(socket, "SO_REUSEPORT")
    sockets: list[socket.socket] = []
    try:
        if shared:
            # A socket that does not share notices others that do: a second instance of this
            # service on the port, which would otherwise get half of the connections.
            with _bind(family, address, shared=False) as probe:
                address = probe.getsockname()
        # Those that were made before one that cannot be are in the list, to be closed.
        sockets.extend(
            _listen_at(family, address, backlog, shared=shared)
            for _ in range(count if shared else 1)
        )
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ConfigurationError(_explain(error, host, port)) from error
    return sockets


def listen_unix(path: Path, backlog: int = BACKLOG) -> socket.socket:
    """Return a socket that listens on the UNIX socket `path`.

    A socket that a dead process left there is replaced.
    Raises `ConfigurationError` when another process listens there, or when it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        # Like a TCP port, for every local user: the proxy in front runs as another one.
        path.chmod(0o666)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ConfigurationError(
            f"cannot listen on the UNIX socket {str(path)!r}: {error.strerror or error}; "
            "choose another path with --unix-socket"
        ) from error
    except ConfigurationError:
        sock.close()
        raise
    return sock


def adopt(fd: int, backlog: int = BACKLOG) -> socket.socket:
    """Return the listening socket behind the inherited descriptor `fd`, and listen on it.

    Raises `ConfigurationError` when `fd` is not a stream socket; it is left open then.
    """
    try:
        sock = socket.socket(fileno=fd)
        try:
            sock.listen(backlog)
        except OSError:
            sock.detach()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"descriptor {fd} is not a listening socket ({error.strerror}); --fd takes one that "
            "this process inherits, for example 3 under systemd's socket activation"
        ) from error
    os.set_inheritable(fd, False)
    return sock


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, _Address]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(
            f"host {host!r} is unknown ({error}); --host takes an address of this machine, "
            "for example 127.0.0.1, or 0.0.0.0 for all of them"
        ) from error
    family, _, _, _, address = found[0]
    return family, address


def _bind(family: socket.AddressFamily, address: _Address, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_at(
    family: socket.AddressFamily, address: _Address, backlog: int, *, shared: bool
) -> socket.socket:
    sock = _bind(family, address, shared=shared)
    try:
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use; stop what listens there "
            f"or choose another with --port {port + 1 if port < 65535 else 8000}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one from 1024 with --port 8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host} is not an address of this machine; choose one with --host, "
            "for example 127.0.0.1, or 0.0.0.0 for all of them"
        )
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(
            f"{str(path)!r} exists and is no socket; remove it or choose another --unix-socket"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigurationError(
        f"another process listens on the UNIX socket {str(path)!r}; stop it "
        "or choose another path with --unix-socket"
    )
