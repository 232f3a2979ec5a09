"""Hypothesis profiles, by HYPOTHESIS_PROFILE: `ci` always tries the same examples, `dev` looks for
new ones, `long` looks for hours' worth of them."""

import os

from hypothesis import HealthCheck, settings

_EXAMPLES = {"ci": 100, "dev": 100, "long": 5_000}

for name, count in _EXAMPLES.items():
    settings.register_profile(
        name,
        derandomize=name == "ci",
        max_examples=count,
        deadline=None,
        # signing and disks take their time, which says nothing about the strategies
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))
