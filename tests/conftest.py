"""What holds for all tests."""

import os

from hypothesis import HealthCheck, settings

# Tests patch what they play, and are about the sources. One test of its own plays what `make fast` made of them.
os.environ["HEARTH_SIM_PLAIN"] = "1"

# How long an example takes says nothing on a machine that does other work beside the tests.
settings.register_profile("hearthmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hearthmesh")
