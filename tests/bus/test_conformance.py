"""The suite of the contract is whole, and out of the way of those who do not test."""

import subprocess
import sys
from collections import Counter
from importlib import import_module
from pkgutil import iter_modules

from busway.bus import conformance
from busway.bus.conformance.harness import Topic


def topics() -> list[type[Topic]]:
    """Return every class of tests in the package."""
    modules = [
        import_module(f"{conformance.__name__}.{m.name}")
        for m in iter_modules(conformance.__path__)
    ]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Topic)
        and found.__module__ == module.__name__
        and found not in (Topic, conformance.Suite)
    ]


def test_the_suite_has_every_topic() -> None:
    assert set(conformance.Suite.__bases__) == set(topics())


def test_no_test_hides_another_of_the_same_name() -> None:
    names = Counter(name for topic in topics() for name in vars(topic) if name.startswith("test_"))
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) > 200


def test_using_the_bus_imports_nothing_of_its_tests() -> None:
    code = (
        "import sys, busway, busway.bus.memory, busway.bus.ipc, busway.bus.urls;"
        "print([name for name in ('pytest', 'hypothesis', 'busway.bus.conformance')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
