"""The bus across machines: Redis or Valkey, 6.2 or newer."""

from busway.bus.redis.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer"]
