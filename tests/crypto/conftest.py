"""Laws are judged by their outcome: how long an example takes says something about the machine only."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
