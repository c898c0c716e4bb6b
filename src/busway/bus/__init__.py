"""The channel layer: named channels that carry messages between processes.

This room knows nothing of HTTP, Django or consumers, and imports none of the others.
"""
