"""The contestants, in the order in which tables show them."""

from bench.contestants.bare import BareUvicorn
from bench.contestants.busway import BuswayIpc, BuswayIpcAsync, BuswayRedis
from bench.contestants.channels import ChannelsOnDaphne, ChannelsOnUvicorn
from bench.contestants.contestant import Contestant
from bench.contestants.django import (
    BuswayDjango,
    DjangoOnDaphne,
    DjangoOnUvicorn,
    Granian,
    Gunicorn,
    GunicornThreads,
)
from bench.contestants.layers import BuswayLayer, ChannelsRedis

#: A new contestant is a subclass of Contestant in a module of its own, and a line here.
#: The first is the one that the others are compared with.
CONTESTANTS: tuple[Contestant, ...] = (
    BuswayIpc(),
    BuswayIpcAsync(),
    BuswayRedis(),
    ChannelsOnUvicorn(),
    ChannelsOnDaphne(),
    BareUvicorn(),
    BuswayDjango(),
    Gunicorn(),
    GunicornThreads(),
    Granian(),
    DjangoOnUvicorn(),
    DjangoOnDaphne(),
    BuswayLayer(),
    ChannelsRedis(),
)
