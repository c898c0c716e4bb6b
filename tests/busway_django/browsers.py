"""Users of the tests, and the cookies of browsers that they are logged in with."""

from typing import Any

from django.contrib.auth.models import User
from django.test import Client


def make_user(name: str = "ada") -> User:
    """Return a new user."""
    return User.objects.create_user(name)


def logged_in(user: User) -> tuple[Client, dict[str, str]]:
    """Return a browser that `user` is logged in with, and its cookies."""
    client = Client()
    client.force_login(user)
    return client, {name: morsel.value for name, morsel in client.cookies.items()}


def routing_of(consumer: Any) -> list[Any]:
    """Return a routing with one consumer for everything."""
    from busway.app import route

    channels = ("websocket.connect", "websocket.receive", "websocket.disconnect", "http.request")
    return [route(channel, consumer) for channel in channels]
