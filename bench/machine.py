"""Where the benchmark runs."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from bench import peers

# Packages whose version matters to the figures.
_PEERS = (
    *("channels", "channels_redis", "redis", "django"),
    *("daphne", "uvicorn", "uvloop", "websockets"),
)


def is_busy() -> bool:
    """Whether others use so much of the processor that figures will be rough."""
    return os.getloadavg()[0] > 0.25 * (os.cpu_count() or 1)


def describe() -> dict[str, str]:
    """What to know about machine and software, for people to read."""
    return {
        "Processor": f"{os.cpu_count()} cores, {_processor()}",
        "Memory": f"{_memory_gb():.0f} GB",
        "System": f"{platform.system()} {platform.release()}",
        "Load average at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
        "Busway": _busway(),
        "Peers": ", ".join(f"{name} {peers.versions()[name]}" for name in _PEERS),
        "Redis server": _redis(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _busway() -> str:
    try:
        return metadata.version("busway")
    except metadata.PackageNotFoundError:
        return "not installed"


def _redis() -> str:
    command = shutil.which("redis-server")
    if command is None:
        return "not installed"
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    words = (word.partition("=") for word in answer.stdout.split())
    return next((version for key, _, version in words if key == "v"), "unknown version")
