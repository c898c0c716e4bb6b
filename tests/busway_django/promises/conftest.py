"""The sites under test."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from busway_django.promises.site import Site, build

LONG = os.environ.get("BUSWAY_SOAK") == "long"
"""Whether the long form was asked for."""

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its database."""
    directory = tmp_path_factory.mktemp("built")
    build(directory)
    return directory


@pytest.fixture(scope="module")
def make_site(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    """Return what copies the project; its processes end with the module."""
    with ExitStack() as stack:
        yield lambda name="site": Site(built, tmp_path_factory.mktemp("sites") / name, stack)


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Iterator[Site]:
    """A site for one test."""
    with ExitStack() as stack:
        yield Site(built, tmp_path / "site", stack)
