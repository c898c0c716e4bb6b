"""`manage.py demo`: somebody to log in as, and something to look at."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from chat.models import Room
from tasks.models import Task


class Command(BaseCommand):
    """See `help`."""

    help = "Creates the user demo, two rooms and three tasks, where they are not there yet."

    def handle(self, **_: object) -> None:
        """Create what is missing."""
        users = get_user_model().objects
        if not users.filter(username="demo").exists():
            users.create_superuser("demo", password="demo")  # noqa: S106
        for slug, title in {"lobby": "Lobby", "coffee": "Coffee corner"}.items():
            Room.objects.get_or_create(slug=slug, defaults={"title": title})
        if not Task.objects.exists():
            for title in ("Water the plants", "Call Grace", "Ship the release"):
                Task.objects.create(title=title)
        self.stdout.write("Log in as demo with the password demo.")
