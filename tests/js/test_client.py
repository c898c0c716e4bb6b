"""The browser client: its tests in node, its types, and that its copies are the same."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import busway

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "js"
INSTALLED = PACKAGE / "node_modules"


def miss(what: str) -> None:
    """Skip where something need not be, on a laptop; fail where it has to be."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run something in the folder of the package, with this Python for what it starts."""
    return subprocess.run(
        command,
        cwd=PACKAGE,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def report(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said."""
    return f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def tools() -> None:
    """Install what the tests in node need, unless it was done before."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            miss(f"there is no {program}")
    INSTALLED.mkdir(exist_ok=True)
    folder = os.open(INSTALLED, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # other test processes may be about to do the same
        _install()
    finally:
        os.close(folder)


def _install() -> None:
    wanted = json.loads((PACKAGE / "package.json").read_text())["devDependencies"]
    note = INSTALLED / ".wanted.json"
    if note.exists() and json.loads(note.read_text()) == wanted:
        return
    done = run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund")
    if done.returncode:
        miss(f"npm cannot install: {report(done)}")
    note.write_text(json.dumps(wanted))


@pytest.mark.usefixtures("tools")
def test_it_does_in_node_what_its_tests_say() -> None:
    done = run("node", "--test", "--test-reporter=spec", "test/")
    assert done.returncode == 0, report(done)


@pytest.mark.usefixtures("tools")
def test_its_types_are_those_that_are_declared() -> None:
    done = run("node_modules/.bin/tsc", "--noEmit")
    assert done.returncode == 0, report(done)


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("js/busway.js", "src/busway/django/static/busway/busway.js"),
        ("js/LICENSE", "LICENSE"),
    ],
)
def test_copies_are_the_same(copy: str, original: str) -> None:
    same = (ROOT / copy).read_bytes() == (ROOT / original).read_bytes()
    assert same, f"cp {original} {copy}"


def test_the_package_has_the_version_of_what_it_talks_to() -> None:
    package = json.loads((PACKAGE / "package.json").read_text())
    assert package["version"] == busway.__version__
