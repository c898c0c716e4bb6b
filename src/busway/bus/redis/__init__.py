"""The bus across machines: Redis or Valkey, 6.2 or newer."""

from busway.bus.errors import ConfigurationError

try:
    import hiredis  # noqa: F401  (asked for here, to say what to do)
    import redis  # noqa: F401
except ImportError as error:
    raise ConfigurationError(
        f'Redis layers need the package {error.name}; run: pip install "busway[redis]"'
    ) from None

from busway.bus.redis.layer import RedisChannelLayer
from busway.bus.redis.local import RedisLocalChannelLayer

__all__ = ["RedisChannelLayer", "RedisLocalChannelLayer"]
