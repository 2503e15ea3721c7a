"""What holds for all tests."""

import pytest
from hypothesis import HealthCheck, settings

# No test asserts an absolute time, and generating inputs on a busy machine is no exception.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """For .ci/again: how the whole run ended, if it did."""
    if not hasattr(session.config, "workerinput"):
        session.config.cache.set("zerostor/ended", int(exitstatus))
