"""The channels of the news: all but the timeout is done by views."""

from busway.django import route
from news.views import give_up

channel_routing = [route("news.timeout", give_up)]
