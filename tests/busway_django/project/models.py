"""Models of the tests' project."""

from django.db import models

from busway_django.project.binding_models import (
    Article,
    Castle,
    CastleMuseum,
    Draft,
    Lesson,
    Museum,
    Place,
    Review,
    Tag,
)

__all__ = [
    "Article",
    "Castle",
    "CastleMuseum",
    "Draft",
    "Lesson",
    "Museum",
    "Note",
    "Place",
    "Review",
    "Tag",
]


class Note(models.Model):
    """Something to store."""

    text = models.CharField(max_length=200)
    author = models.CharField(max_length=50, blank=True)
    secret = models.CharField(max_length=50, blank=True)

    class Meta:
        app_label = "project"

    def __str__(self) -> str:
        return self.text
