"""Committing results: what cannot be committed is said, and never tried for ever."""

import pytest

from busway.app.commits import Committer
from busway.bus.errors import InvalidArgument
from busway.bus.layer import ChannelLayer


def test_an_error_that_no_result_causes_is_raised(layer: ChannelLayer) -> None:
    with layer.receiver() as receiver:
        committer = Committer(receiver, ["jobs"])
        layer.send("jobs", {})
        taken = committer.exchange(1)
        committer.exchange(0, taken)
        with pytest.raises(InvalidArgument, match="not returned before"):
            committer.exchange(0, taken)
