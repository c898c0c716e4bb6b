"""Settings for every test of the bus."""

from hypothesis import settings

# A machine that does something else at the same time is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
