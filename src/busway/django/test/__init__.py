"""Tools to test consumers with: under the names of Channels 1 (`channels.test`)."""

from busway.django.test.cases import ChannelTestCase, TransactionChannelTestCase
from busway.django.test.client import Client
from busway.django.test.layers import memory_layers
from busway.django.test.live import ChannelLiveServer, ChannelLiveServerTestCase
from busway.django.test.processes import ServerProcess, WorkerProcess
from busway.django.test.routes import apply_routes
from busway.django.test.websocket import HttpClient, WSClient

__all__ = [
    "ChannelLiveServer",
    "ChannelLiveServerTestCase",
    "ChannelTestCase",
    "Client",
    "HttpClient",
    "ServerProcess",
    "TransactionChannelTestCase",
    "WSClient",
    "WorkerProcess",
    "apply_routes",
    "memory_layers",
]
