"""The peers' own virtual environment."""

import subprocess
import venv
from pathlib import Path

from bench.target import Failure

_HERE = Path(__file__).parent
_FOLDER = _HERE / ".venv-peers"
_REQUIREMENTS = _HERE / "requirements-peers.txt"
# A copy of the requirements that are installed, written last.
_INSTALLED = _FOLDER / "installed.txt"

#: The environment's interpreter.
PYTHON = _FOLDER / "bin" / "python"


def is_ready() -> bool:
    """Whether the environment holds what the requirements ask for."""
    return _INSTALLED.exists() and _INSTALLED.read_text() == _REQUIREMENTS.read_text()


def make() -> None:
    """Make the environment anew; takes about half a minute.

    Raises:
        Failure: pip could not install the requirements.
    """
    venv.create(_FOLDER, clear=True, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    outcome = subprocess.run(
        [*pip, "install", "--requirement", str(_REQUIREMENTS)],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    if outcome.returncode:
        last = outcome.stderr.strip().splitlines()[-1:]
        raise Failure(f"the peers could not be installed: {' '.join(last)}")
    _INSTALLED.write_text(_REQUIREMENTS.read_text())


def versions() -> dict[str, str]:
    """The pinned version of each package."""
    lines = _REQUIREMENTS.read_text().splitlines()
    pins = (line.partition("==") for line in lines if not line.startswith("#"))
    return {name: version for name, _, version in pins}
