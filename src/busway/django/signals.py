"""Signals of workers and their consumers.

Receivers run in the thread, or on the event loop, of the consumer.
"""

from django.dispatch import Signal

consumer_started = Signal()
"""Sent before each consumer, with `message` and `consumer`, its name. The sender is `Worker`."""

consumer_finished = Signal()
"""Sent after each consumer, however it ended, with `message` and `consumer`."""

worker_ready = Signal()
"""Sent once in a worker process for each consumer thread, before its first message."""

worker_process_ready = Signal()
"""Sent once in a worker process, before its first message."""
