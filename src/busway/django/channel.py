"""Channels and groups; the module's name is that of Channels 1."""

from busway.django.channels import Channel, Group

__all__ = ["Channel", "Group"]
