"""Django settings of the Channels 4 contestants: production values, nothing that costs time."""

import os

DEBUG = False
SECRET_KEY = "only for the benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["channels"]
USE_TZ = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["BENCH_REDIS_URL"]]},
    },
}
