"""hypothesis: no deadline for one example, since machines that run tests in parallel are slow."""

from hypothesis import HealthCheck, settings

settings.register_profile("order-sync", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("order-sync")
