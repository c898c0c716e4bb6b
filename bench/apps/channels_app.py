"""Django Channels 4's side of the benchmark, written as its documentation teaches it.

The two echo consumers name no channel layer: a consumer that only echoes needs none, and is
faster without. Everything that must be reachable by a group has the Redis layer.
"""

# The packages live in the peers' own environment, which type checkers do not see.
# mypy: disable-error-code="import-not-found, import-untyped", allow-subclassing-any

import os
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "channels_settings")
django.setup()

from django.urls import path  # noqa: E402 (needs the settings)


class SyncEcho(WebsocketConsumer):
    channel_layer_alias = "none"

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data)


class AsyncEcho(AsyncWebsocketConsumer):
    channel_layer_alias = "none"

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)


class Open(AsyncWebsocketConsumer):
    """Accepts, and can be reached over the channel layer."""


class Member(AsyncWebsocketConsumer):
    groups = ("all",)

    async def group_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class Trigger(AsyncWebsocketConsumer):
    """Answers ``"COUNT TAG"`` with COUNT messages to everybody in the group."""

    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        count, tag = text_data.split()
        for number in range(int(count)):
            message = {"type": "group.message", "text": f"{tag}-{number:03d}"}
            await self.channel_layer.group_send("all", message)


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("echo/sync", SyncEcho.as_asgi()),
                path("echo/async", AsyncEcho.as_asgi()),
                path("open", Open.as_asgi()),
                path("group", Member.as_asgi()),
                path("trigger", Trigger.as_asgi()),
            ]
        ),
    }
)
