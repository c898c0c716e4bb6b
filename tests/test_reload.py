"""Which files `--reload` watches, and which changes it tells of."""

import asyncio
import sys
from pathlib import Path

import pytest

from busway.bus.errors import ConfigurationError
from busway.supervisor.reload import changed_files, code_directories


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory that modules are imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_a_module_in_the_current_directory_is_watched_with_its_neighbours(here: Path) -> None:
    (here / "chat_of_mine.py").touch()
    assert code_directories("chat_of_mine") == [here]


def test_a_package_in_the_current_directory_is_watched_with_its_neighbours(here: Path) -> None:
    (here / "site_of_mine").mkdir()
    (here / "site_of_mine" / "__init__.py").touch()
    assert code_directories("site_of_mine.routing") == [here]


def test_an_installed_package_is_watched_alone(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("installed")
    (elsewhere / "package_of_mine").mkdir()
    (elsewhere / "package_of_mine" / "__init__.py").touch()
    sys.path.append(str(elsewhere))
    assert code_directories("package_of_mine.routing") == [elsewhere / "package_of_mine"]


def test_looking_for_a_module_does_not_import_it(here: Path) -> None:
    (here / "explosive.py").write_text("raise RuntimeError")
    assert code_directories("explosive") == [here]


def test_a_module_that_is_nowhere_is_reported(here: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no module 'nowhere' in {here}"):
        code_directories("nowhere.routing")


@pytest.mark.parametrize("name", ["consumers.py", "page.html", "style.css", "page.js"])
async def test_changes_of_code_are_told_and_others_are_not(here: Path, name: str) -> None:
    changes = changed_files([here])
    upcoming = asyncio.ensure_future(anext(changes))
    # The first step of the generator begins to watch.
    await asyncio.sleep(0)
    for changed in ("data.sqlite3", ".venv/lib/module.py", "__pycache__/x.py", name):
        (here / changed).parent.mkdir(parents=True, exist_ok=True)
        (here / changed).write_text("new")
    async with asyncio.timeout(30):
        assert await upcoming == {name}
    await changes.aclose()
