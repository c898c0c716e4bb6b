"""Models for the tests of bindings."""

from typing import Any

from django.db import models

from busway.django.binding.websockets import WebsocketBinding


class Tag(models.Model):
    """Something that articles have several of."""

    name = models.CharField(max_length=20)

    class Meta:
        app_label = "project"


class Article(models.Model):
    """Something in a section, with fields of all kinds."""

    title = models.CharField(max_length=20)
    section = models.CharField(max_length=20, default="news")
    rating = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=6, decimal_places=2, default=0)
    published = models.DateField(null=True, blank=True)
    secret = models.CharField(max_length=20, blank=True)
    internal = models.CharField(max_length=20, blank=True, editable=False)
    attachment = models.FileField(blank=True)
    details = models.JSONField(default=dict, blank=True)
    origin = models.ForeignKey("self", models.CASCADE, null=True, blank=True)
    tags = models.ManyToManyField(Tag, blank=True)

    class Meta:
        app_label = "project"

    @property
    def shout(self) -> str:
        """A property."""
        return self.title.upper()

    def stars(self) -> str:
        """A method."""
        return "*" * self.rating


class Review(Article):
    """A child with a table of its own."""

    verdict = models.CharField(max_length=20, blank=True)

    class Meta:
        app_label = "project"


class Draft(Article):
    """A proxy."""

    class Meta:
        app_label = "project"
        proxy = True


class Place(models.Model):
    """Something whose key is not a number that the database gives."""

    code: Any = models.CharField(max_length=5, primary_key=True)
    label = models.CharField(max_length=20)

    class Meta:
        app_label = "project"


class Lesson(models.Model):
    """Something with fields that depend on each other, and a choice that is limited."""

    course = models.CharField(max_length=20)
    number = models.IntegerField()
    remark = models.TextField(blank=True)
    details = models.JSONField(default=dict, blank=True)
    after = models.ForeignKey("self", models.PROTECT, null=True)
    topics = models.ManyToManyField(Tag, limit_choices_to={"name__startswith": "public"})

    class Meta:
        app_label = "project"
        unique_together = (("course", "number"),)


class Castle(models.Model):
    """One parent."""

    castle_id: Any = models.AutoField(primary_key=True)

    class Meta:
        app_label = "project"


class Museum(models.Model):
    """Another, whose keys are not those of the first."""

    museum_id: Any = models.AutoField(primary_key=True)

    class Meta:
        app_label = "project"


class CastleMuseum(Castle, Museum):
    """A child of two parents. Its key is that of the first."""

    label = models.CharField(max_length=20)

    class Meta:
        app_label = "project"


class PlaceBinding(WebsocketBinding):
    """A binding that is defined before the models are ready."""

    model = "project.Place"
    stream = "places"
    fields = ("label",)

    @classmethod
    def group_names(cls, instance: Place) -> list[str]:
        """Return one group for all."""
        return ["places"]
