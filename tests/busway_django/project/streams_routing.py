"""A socket with two streams; only the processes of `streams_settings` import this."""

from typing import Any, ClassVar

from busway.django.binding.websockets import WebsocketBinding
from busway.django.generic.websockets import (
    JsonWebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)
from busway_django.project.models import Note


class NoteBinding(WebsocketBinding):
    """Everybody may do everything."""

    model = Note
    stream = "notes"
    fields = ("text",)
    channel_session_user = False

    @classmethod
    def group_names(cls, instance: Note) -> list[str]:
        """Return the one group."""
        return ["notes"]

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Permit."""
        return True


class Echo(JsonWebsocketConsumer):
    """Answers what it is sent."""

    def receive(self, content: Any, multiplexer: WebsocketMultiplexer, **_: Any) -> None:
        """Answer."""
        multiplexer.send(content)


class Streams(WebsocketDemultiplexer):
    """Both on one socket."""

    groups = ("notes",)
    consumers: ClassVar = {"notes": NoteBinding.consumer, "echo": Echo}


channel_routing = [Streams.as_route(path="/streams/")]
