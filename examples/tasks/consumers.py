"""The socket of the list."""

from busway.django.exceptions import DenyConnection
from busway.django.generic.websockets import WebsocketDemultiplexer
from tasks.bindings import TaskBinding


class Live(WebsocketDemultiplexer):
    """Carries the stream of the tasks."""

    http_user = True
    groups = ["tasks"]
    consumers = {"tasks": TaskBinding.consumer}

    def connect(self, message, **kwargs):
        """Let those in who are logged in."""
        if not message.user.is_authenticated:
            raise DenyConnection
        super().connect(message, **kwargs)
