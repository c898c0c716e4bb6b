from django.db import models


class Board(models.Model):
    slug = models.SlugField(unique=True)

    def __str__(self):
        return self.slug


class IntegerValue(models.Model):
    board = models.ForeignKey(Board, on_delete=models.CASCADE)
    name = models.CharField(max_length=100)
    value = models.IntegerField(default=0)
    secret = models.CharField(max_length=100, default="hidden")

    def __str__(self):
        return "%s = %s" % (self.name, self.value)

    @property
    def is_negative(self):
        return self.value < 0
