"""What there is to do."""

from django.db import models


class Task(models.Model):
    """Something to do."""

    title = models.CharField(max_length=100)
    done = models.BooleanField(default=False)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.title
