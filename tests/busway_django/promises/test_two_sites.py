"""Sites of one user in different directories have nothing to do with each other."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from busway_django.promises.site import Site
from services import PATIENCE

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@pytest.fixture
def sites(built: Path, tmp_path: Path) -> Iterator[list[Site]]:
    """Two copies of a project, with no settings for their buses, whose buses are removed."""
    # The name of the project is that of its bus, and other tests may run one too.
    name = f"gallery_{uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.callback(remove_buses, name)
        copies = [Site(built, tmp_path / directory, stack) for directory in ("one", "two")]
        for site in copies:
            site.rename(name)
        yield copies


def remove_buses(name: str) -> None:
    """Remove what the processes of a project leave in shared memory."""
    for bus in (SHARED_MEMORY / f"busway-{os.geteuid()}").glob(f"{name}-*"):
        shutil.rmtree(bus)


def test_they_do_not_meet_each_others_messages(sites: list[Site]) -> None:
    for site in sites:
        site.runserver("--workers", "1", bus=None)
    one, two = sites
    for site in sites:
        for _ in range(20):
            answer = httpx.get(site.url, timeout=PATIENCE)
            assert answer.text.startswith(f"hello from {site.directory.name},")
    with one.socket("/whoami/") as first, two.socket("/whoami/") as second:
        for _ in range(20):
            for client, site in ((first, one), (second, two)):
                client.send("site")
                assert client.recv(PATIENCE) == site.directory.name
        # Groups of the same name are two as well.
        for site in sites:
            httpx.get(f"{site.url}/tell-all/from-{site.directory.name}/", timeout=PATIENCE)
        for client, site in ((first, one), (second, two)):
            assert client.recv(PATIENCE) == f"from-{site.directory.name}"
            client.send("site")
            assert client.recv(PATIENCE) == site.directory.name


@pytest.mark.parametrize("has_init", [True, False])
def test_processes_of_one_site_meet_wherever_they_are_started(
    sites: list[Site], tmp_path: Path, has_init: bool
) -> None:
    site = sites[0]
    if not has_init:
        (site.directory / site.package / "__init__.py").unlink()
    site.runweb(bus=None)
    site.runworker(bus=None, cwd=tmp_path)
    assert httpx.get(site.url, timeout=PATIENCE).text.startswith("hello from one,")
