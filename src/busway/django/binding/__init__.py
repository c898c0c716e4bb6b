"""Models bound to sockets: changes go out to groups, and come in from clients."""

from busway.django.binding.base import Binding

__all__ = ["Binding"]
