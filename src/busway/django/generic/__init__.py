"""Consumers as classes: a new instance handles each message."""

from busway.django.generic.base import BaseConsumer

__all__ = ["BaseConsumer"]
