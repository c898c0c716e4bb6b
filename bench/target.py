"""What the benchmark tells the load generator."""

import json
from dataclasses import asdict, dataclass


class Failure(Exception):
    """A contestant answered wrongly, or not at all."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running contestant: where it listens, and the processes it started."""

    port: int
    pids: tuple[int, ...]
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: seconds of load, and whether sizes are those of a full run."""

    seconds: float
    full: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """One measurement: this variant of this case against this target."""

    case: str
    variant: str
    target: Target
    effort: Effort

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        fields = json.loads(text)
        target = Target(fields["target"]["port"], tuple(fields["target"]["pids"]))
        effort = Effort(fields["effort"]["seconds"], fields["effort"]["full"])
        return cls(fields["case"], fields["variant"], target, effort)
