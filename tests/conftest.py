"""What holds for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No test asserts an absolute time, and generating inputs on a busy machine is no exception.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def nobody_is_signed_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither reads nor changes what the person who runs the tests has."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("person"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """For .ci/again: how the whole run ended, if it did."""
    if not hasattr(session.config, "workerinput"):
        session.config.cache.set("zerostor/ended", int(exitstatus))
