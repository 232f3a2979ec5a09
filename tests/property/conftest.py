"""Hypothesis profiles: `ci` always tries the same examples, `dev` looks for new ones."""

import os

from hypothesis import HealthCheck, settings

# signing and disks take their time, which says nothing about the strategies
_PATIENT = [HealthCheck.too_slow]

settings.register_profile(
    "ci", derandomize=True, max_examples=150, deadline=None, suppress_health_check=_PATIENT
)
settings.register_profile("dev", max_examples=150, deadline=None, suppress_health_check=_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))
