"""A channel layer alone: a message is sent and received by the same process."""

import json
import urllib.request
from typing import ClassVar

from bench.cases.case import SERVER_CPU, Case, Metric, Variant
from bench.load.meter import Meter
from bench.target import Effort, Target


class Layer(Case):
    name = "layer"
    title = "Send and receive"
    variants: ClassVar = {
        "single": Variant("one after the other", frozenset({"/single"})),
        "many": Variant("50 at a time", frozenset({"/many"})),
    }
    metrics = (Metric("messages_per_s", "messages", "/s", "more"), SERVER_CPU)

    def measure(self, target: Target, variant: str, effort: Effort) -> dict[str, float]:
        address = f"http://{target.host}:{target.port}/{variant}?seconds={effort.seconds}"
        meter = Meter(target)
        with urllib.request.urlopen(address) as answer:
            found = json.load(answer)
        cost = meter.cost(found["messages"])
        return {
            "messages_per_s": found["messages"] / found["seconds"],
            "server_cpu_us": cost["server_cpu_us"],
        }
