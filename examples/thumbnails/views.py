"""Uploads: they are answered at once, and what takes long is left to a consumer."""

from django.db import transaction
from django.forms import modelform_factory
from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from busway.django import Channel
from thumbnails.models import Picture

PictureForm = modelform_factory(Picture, fields=["image"])


def page(request):
    """Show the page."""
    return render(request, "thumbnails/page.html")


@require_POST
def upload(request):
    """Take a picture, and have its thumbnail made."""
    form = PictureForm(request.POST, request.FILES, instance=Picture(owner=request.user))
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    picture = form.save()
    job = {"picture": picture.pk}
    transaction.on_commit(lambda: Channel("thumbnails.make").send(job))
    return JsonResponse({"picture": picture.as_dict()}, status=202)
