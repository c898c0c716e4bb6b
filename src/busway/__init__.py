"""Busway: realtime for Django and any Python on a message bus."""

__version__ = "0.1.0"
