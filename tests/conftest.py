"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a machine that does other work beside the tests.
settings.register_profile("hearthmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hearthmesh")
