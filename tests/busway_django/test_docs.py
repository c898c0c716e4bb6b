"""What the documentation tells users to write, tried on a project that Django has made."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from websockets.sync.client import connect

from services import Service

DOCS = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str) -> dict[str, str]:
    """Return the files that a page shows, by their names."""
    found = re.findall(r'```python title="(.+?)"\n(.+?)```', (DOCS / page).read_text(), re.DOTALL)
    return dict(found)


class Project:
    """A project of `startproject`, with what the how-to adds to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.finish("django-admin", "startproject", "mysite", ".")
        own = blocks("django.md")
        settings = directory / "mysite" / "settings.py"
        first, layers = own.pop("settings.py").split("\n\n", 1)
        assert first.startswith('INSTALLED_APPS = [\n    "busway.django",')
        code = settings.read_text().replace(
            "INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'busway.django',"
        )
        settings.write_text(f"{code}\n{layers}\n")
        for name, text in {**own, **blocks("test.md")}.items():
            (directory / name).write_text(text)

    def command(self, *words: str) -> Service:
        """Run a command in the project."""
        program = {
            "django-admin": [sys.executable, "-m", "django"],
            "manage.py": [sys.executable, "manage.py"],
            "pytest": [sys.executable, "-m", "pytest"],
        }[words[0]]
        return Service(
            [*program, *words[1:]],
            cwd=self.directory,
            environment={
                "PYTHONPATH": os.pathsep.join([str(self.directory), *filter(None, sys.path)]),
                "DJANGO_SETTINGS_MODULE": "" if words[0] == "django-admin" else "mysite.settings",
            },
        )

    def finish(self, *words: str) -> str:
        """Run a command to its end, and return what it printed."""
        with self.command(*words) as service:
            assert service.ended() == 0, service.output
            service.all_ended()
            return service.output


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """Return the project of the how-to."""
    directory = Path(mkdtemp(prefix="busway-docs-"))
    yield Project(directory)
    shutil.rmtree(directory)


def test_the_project_has_no_mistakes(project: Project) -> None:
    assert "no issues" in project.finish("manage.py", "check", "--fail-level", "WARNING")


def test_the_chat_works(project: Project) -> None:
    with project.command("manage.py", "runserver", "127.0.0.1:0", "--noreload") as service:
        address = service.expect(r"http://(\S+)/ serves HTTP and WebSockets, with 2 workers")[1]
        with connect(f"ws://{address}/chat/lobby/", open_timeout=30) as socket:
            socket.send("hello")
            assert socket.recv(30) == "hello"


def test_the_test_cases_pass(project: Project) -> None:
    assert "Ran 2 tests" in project.finish("manage.py", "test", "mysite")


def test_the_tests_for_pytest_pass(project: Project) -> None:
    plugins = ("-p", "busway.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:asyncio")
    assert "2 passed" in project.finish("pytest", "-q", *plugins, "test_chat.py")
