"""Which files changed: what `--reload` waits for."""

from collections.abc import AsyncGenerator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from watchfiles import PythonFilter, awatch

from busway.bus.errors import ConfigurationError

EXTENSIONS = (".html", ".css", ".js")
"""What else besides Python code a consumer answers with. Data files are not in it: consumers
write those."""


async def changed_files(directories: Sequence[Path]) -> AsyncGenerator[set[str], None]:
    """Yield the paths of files that changed in `directories` and below, changes in a row as one.

    Paths are relative to the current directory where they are in it. Virtual environments,
    caches and version control are left out. Raises `OSError` when they cannot be watched.
    """
    here = Path.cwd()
    accepted = PythonFilter(extra_extensions=EXTENSIONS)
    async for changes in awatch(*directories, watch_filter=accepted):
        paths = (Path(path) for _, path in changes)
        yield {str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths}


def code_directories(module: str) -> list[Path]:
    """Return what to watch for `module`: the current directory if it is there, or its package.

    The module is looked for, not imported. Raises `ConfigurationError` when there is none.
    """
    here = Path.cwd()
    top = module.partition(".")[0]
    spec = PathFinder.find_spec(top)
    if spec is None:
        raise ConfigurationError(
            f"there is no module {top!r} in {here} or among the installed ones; "
            "run the command in the directory that holds it"
        )
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    parents = {Path(place).parent for place in places}
    if here in parents:
        return [here]
    # A package's own directory; for a single file the directory that it is in.
    return [Path(place) for place in places] if spec.submodule_search_locations else [*parents]
