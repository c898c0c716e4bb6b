"""What a consumer gets; the module's name is that of Channels 1."""

from busway.app.message import Message

__all__ = ["Message"]
