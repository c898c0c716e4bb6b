"""The contract of a channel layer, as tests that every layer passes.

For authors of layers. Subclass `Suite` in a test module, and say how your layer is made:

    from functools import partial

    import pytest

    from busway.bus.conformance import Factory, Suite


    class TestMyLayer(Suite):
        across_processes = True

        @pytest.fixture
        def layer_factory(self, tmp_path) -> Factory:
            return partial(MyLayer, "mine", directory=tmp_path)

`layer_factory` gives a callable that takes the options of `busway.bus.layer.ChannelLayer` and
returns a layer. The layers that one factory makes are on one bus, and each test has a bus of its
own. With `across_processes` the factory is also pickled and called in other processes, which
tests may kill; it is false for layers that live in one process, whose factory returns the same
layer again. With `lanes_apart` a channel's lanes are in several places: they have no order among
each other, and capacity counts for each place.

Needs pytest and hypothesis. Every operation is tested in its sync and its async form.
"""

import pytest

for _topic in (
    "accounts",
    "contents",
    "crowds",
    "groups",
    "harness",
    "holding",
    "inspection",
    "lanes",
    "limits",
    "machine",
    "processes",
    "queues",
    "timing",
    "waiting",
):
    pytest.register_assert_rewrite(f"{__name__}.{_topic}")

from busway.bus.conformance.suite import Factory, Suite  # noqa: E402

__all__ = ["Factory", "Suite"]
