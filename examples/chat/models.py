"""Rooms, what was said in them, and who is there."""

from django.conf import settings
from django.db import models

from busway.django import Group


class Room(models.Model):
    """A place to chat. Rooms are made in the admin."""

    title = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)

    def __str__(self):
        return self.title

    @property
    def group(self):
        """The sockets of all who are there."""
        return Group(f"chat.{self.pk}")

    def people(self):
        """Return the names of those who are there."""
        # A socket leaves its groups when it ends, however it ends: rows may be left over.
        present = self.visits.filter(socket__in=self.group.channels())
        return sorted({visit.user.get_username() for visit in present.select_related("user")})


class Post(models.Model):
    """Something that was said."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="posts")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=1000)
    sent = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return f"{self.author}: {self.text}"

    def as_dict(self):
        """Return what a page shows."""
        sent = self.sent.isoformat(timespec="seconds")
        return {"id": self.pk, "author": str(self.author), "text": self.text, "sent": sent}


class Visit(models.Model):
    """An open page: a user's socket in a room."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="visits")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    socket = models.CharField(max_length=100, unique=True)

    def __str__(self):
        return f"{self.user} in {self.room}"
