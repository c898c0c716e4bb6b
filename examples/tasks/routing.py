"""The channels of the list."""

from tasks.consumers import Live

channel_routing = [Live.as_route(path=r"^/$")]
