"""What the views look for."""

from django.db import models


class Item(models.Model):
    """Something with a name."""

    name: "models.CharField[str, str]" = models.CharField(max_length=50)
