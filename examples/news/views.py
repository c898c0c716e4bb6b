"""A long poll: a view that answers when there is something to say, without a thread that waits."""

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render

from busway.django import Channel, Group
from busway.django.exceptions import ResponseLater
from busway.django.handler import AsgiHandler
from news.models import Headline

WAITING = Group("news.waiting")
PATIENCE = 25.0
"""Seconds that a request waits."""


def page(request):
    """Show the page."""
    return render(request, "news/page.html")


def following(request, pk):
    """Answer with the headlines after `pk`; if there are none, later."""
    # At once and before the look: what is published after that goes to the group.
    WAITING.add(request.reply_channel, immediately=True)
    headlines = Headline.objects.filter(pk__gt=pk)
    if headlines:
        return answer(headlines)
    timeout = {"reply_channel": request.reply_channel.name}
    Channel("news.timeout").send(timeout, delay=PATIENCE)
    raise ResponseLater


def publish(sender, instance, **kwargs):
    """Answer all who wait."""
    for part in AsgiHandler.encode_response(answer([instance])):
        WAITING.send(part)


def give_up(message):
    """Answer one who has waited long enough; nothing happens if they have an answer."""
    for part in AsgiHandler.encode_response(HttpResponse(status=204)):
        message.reply_channel.send(part)


def answer(headlines):
    """Return the response with `headlines`."""
    news = [{"id": headline.pk, "text": headline.text} for headline in headlines]
    return JsonResponse({"headlines": news})
