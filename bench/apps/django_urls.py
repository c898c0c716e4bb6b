"""The views."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_items.models import Item


def hello(_: HttpRequest) -> HttpResponse:
    return answer("hello")


def sqlite(_: HttpRequest) -> HttpResponse:
    return answer(Item.objects.get(pk=7).name)


def postgresql(_: HttpRequest) -> HttpResponse:
    return answer(Item.objects.using("postgresql").get(pk=7).name)


def answer(text: str) -> HttpResponse:
    """A response of known length: some servers would send it in chunks otherwise."""
    return HttpResponse(text, headers={"Content-Length": str(len(text))})


urlpatterns = [
    path("hello", hello),
    path("sqlite", sqlite),
    path("postgresql", postgresql),
]
