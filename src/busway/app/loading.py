"""Objects by their dotted paths: "package.module.name" or "package.module:name"."""

from importlib import import_module
from typing import Any

from busway.bus.errors import ConfigurationError


def load(path: str) -> Any:
    """Import what `path` names.

    Raises `ConfigurationError` when there is no such module or no such name in it. An error
    inside the module itself is raised as it is: its traceback says what to mend.
    """
    module_name, separator, name = path.rpartition(":" if ":" in path else ".")
    if not separator or not module_name or not name:
        raise ConfigurationError(
            f"{path!r} names nothing to import: expected 'package.module:name'"
        )
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(
            f"{path!r} cannot be imported: there is no module {error.name!r}; "
            "check the spelling and the directory you start from"
        ) from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(
                f"{path!r} cannot be imported: {module_name!r} has no {part!r}"
            ) from None
    return found
