"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# No test asserts an absolute time, and generating inputs on a busy machine is no exception.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
