"""A chat with rooms, run by `busway demo`: `consumers.py` is where to start reading."""
