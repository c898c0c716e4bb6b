"""The job that makes a thumbnail, and the socket that tells of it."""

import json
from io import BytesIO

from django.core.files.base import ContentFile
from PIL import Image, ImageOps

from busway.django import Group
from busway.django.auth import http_session_user
from thumbnails.models import Picture

SIZE = (400, 400)


def make(message):
    """Make a thumbnail, and tell its owner's pages."""
    picture = Picture.objects.filter(pk=message["picture"]).first()
    if picture is None:
        return  # it was deleted meanwhile
    try:
        picture.thumbnail.save(f"{picture.pk}.webp", reduced(picture.image), save=False)
    except (OSError, Image.DecompressionBombError) as error:
        picture.problem = f"No thumbnail: {error}"[:200]
    picture.save()
    tell(group_of(picture.owner_id), [picture])


def reduced(image):
    """Return a small copy of an image file."""
    with Image.open(image) as original:
        original.thumbnail(SIZE)
        upright = ImageOps.exif_transpose(original)  # phones only note which way is up
        file = BytesIO()
        upright.convert("RGB").save(file, "WEBP")
    return ContentFile(file.getvalue())


@http_session_user
def connect(message):
    """Tell somebody of their pictures, now and whenever a thumbnail is made."""
    if not message.user.is_authenticated:
        message.reply_channel.send({"accept": False})
        return
    message.reply_channel.send({"accept": True})
    # At once and before the look, so that no thumbnail is missed.
    group_of(message.user.pk).add(message.reply_channel, immediately=True)
    tell(message.reply_channel, Picture.objects.filter(owner=message.user))


def group_of(user):
    """Return the group of all pages of a user."""
    return Group(f"thumbnails.{user}")


def tell(to, pictures):
    """Send what pages show of pictures."""
    to.send({"text": json.dumps([picture.as_dict() for picture in pictures])})
