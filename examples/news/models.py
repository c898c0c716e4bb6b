"""What happened."""

from django.db import models


class Headline(models.Model):
    """A piece of news."""

    text = models.CharField(max_length=200)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.text
