"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Tests patch what they play, and are about the sources. One test of its own plays what `make fast` made of them.
os.environ["HEARTH_SIM_PLAIN"] = "1"

# How long an example takes says nothing on a machine that does other work beside the tests.
settings.register_profile("hearthmesh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hearthmesh")


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A client configures logs once a process, for the standard error of then: that of a test is closed at its end."""
    yield
    structlog.reset_defaults()
