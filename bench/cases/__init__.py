"""The cases, in the order in which they run."""

from bench.cases.broadcast import Broadcast
from bench.cases.case import Case
from bench.cases.connects import Connects
from bench.cases.echo import Echo
from bench.cases.idle import Idle
from bench.cases.layer import Layer
from bench.cases.requests import Requests
from bench.cases.roundtrip import RoundTrip

#: A new case is a subclass of Case in a module of its own, and a line here.
CASES: tuple[Case, ...] = (
    Echo(),
    RoundTrip(),
    Broadcast(),
    Connects(),
    Idle(),
    Requests(),
    Layer(),
)


def case_named(name: str) -> Case:
    """The case with this name."""
    return next(case for case in CASES if case.name == name)
