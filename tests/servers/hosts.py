"""Hosts with a network between them that can be cut: network namespaces on this machine.

A namespace lives as long as a process in it. The one that keeps it ends with this process,
however that ends, and takes the interfaces along.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from types import TracebackType
from typing import Self

import pytest

from servers.starting import start
from services import Service

_NETWORK = "198.18.0"
"""Of the addresses that are set aside for tests of networks; nobody else's host has one."""

_TOOLS = ("ip", "nsenter", "unshare", "setpriv")


class Namespace:
    """A network namespace; it is there from `open` until the stack is closed."""

    def __init__(self, stack: ExitStack) -> None:
        command = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
        self._keeper: Service = stack.enter_context(start(command))
        self._keeper.expect("ready")

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._keeper.pid

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command, to run it here: it stays the same process."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def run(self, *words: str) -> str:
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            [*self.inside, *words], capture_output=True, text=True, check=False, timeout=30
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


class Host(Namespace):
    """A host in a `Network`."""

    def __init__(self, stack: ExitStack, switch: Namespace, number: int) -> None:
        super().__init__(stack)
        self.address = f"{_NETWORK}.{number}"
        self._switch = switch
        self._port = f"port{number}"
        self._stack = stack
        _ip(
            "link", "add", "eth0", "netns", str(self.pid),
            "type", "veth", "peer", "name", self._port, "netns", str(switch.pid),
        )  # fmt: skip
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            self.run("ip", "link", "set", interface, "up")
        switch.run("ip", "link", "set", self._port, "up")
        self.heal()

    def cut(self) -> None:
        """Pull its cable at the far end: nobody is told, packets go nowhere, until `heal`."""
        self._switch.run("ip", "link", "set", self._port, "nomaster")

    def heal(self) -> None:
        """End a `cut`."""
        self._switch.run("ip", "link", "set", self._port, "master", "switch")

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> Service:
        """Start `command` here; it is killed at the end of the network, if not before."""
        service = start(command, inside=self.inside, environment=environment)
        return self._stack.enter_context(service)


class Network:
    """Hosts that reach each other, and nothing else, from `with` to its end."""

    def __init__(self, hosts: int = 2) -> None:
        """Describe a network of `hosts` hosts."""
        self._count = hosts
        self._stack = ExitStack()
        self.hosts: list[Host] = []

    def __enter__(self) -> Self:
        try:
            switch = Namespace(self._stack)
            switch.run("ip", "link", "add", "switch", "type", "bridge")
            switch.run("ip", "link", "set", "switch", "up")
            self.hosts = [Host(self._stack, switch, n) for n in range(1, self._count + 1)]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


@cache
def why_not() -> str:
    """Return why this machine can have no `Network`; empty when it can."""
    if os.geteuid():
        return "only root may make network namespaces"
    if lacking := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"there is no {' and no '.join(lacking)}"
    try:
        with Network(1):
            return ""
    except (RuntimeError, AssertionError) as error:
        return f"network namespaces cannot be made: {error}"


def need_network() -> None:
    """Skip the test where there can be no `Network` (fail when that is CI's root)."""
    if reason := why_not():
        if os.environ.get("CI") and not os.geteuid():
            pytest.fail(f"{reason}: install iproute2 and util-linux, and allow namespaces")
        pytest.skip(reason)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
