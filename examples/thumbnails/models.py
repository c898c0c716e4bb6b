"""Pictures, and their thumbnails."""

from django.conf import settings
from django.db import models


class Picture(models.Model):
    """A picture that somebody has uploaded."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    image = models.ImageField(upload_to="pictures")
    thumbnail = models.ImageField(upload_to="thumbnails", blank=True, editable=False)
    problem = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.image.name

    def as_dict(self):
        """Return what a page shows."""
        url = self.thumbnail.url if self.thumbnail else None
        return {"id": self.pk, "thumbnail": url, "problem": self.problem}
