"""`python -m tests.fuzz`: a million spoilt inputs over all targets. Exit 1 for any failure."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from random import SystemRandom

from tests.fuzz.campaign import Findings, Target, run
from tests.fuzz.claims import Bodies, Normalising
from tests.fuzz.settings_files import SettingsFromEnvironment, TenantsFile
from tests.fuzz.spool_files import SpoolFiles, SpoolLines
from tests.fuzz.tokens import Judging, Splitting

TARGETS: Mapping[str, tuple[Callable[[int], Target], float]] = {
    "token": (Splitting, 0.42),
    "verifier": (Judging, 0.2),
    "claims": (Normalising, 0.15),
    "body": (Bodies, 0.1),
    "lines": (SpoolLines, 0.08),
    "settings": (SettingsFromEnvironment, 0.02),
    "tenants": (TenantsFile, 0.025),
    "spool": (SpoolFiles, 0.005),
}
"""Each with its share of the inputs: the dearest get the fewest."""


def fuzz(
    *, seed: int, inputs: int, target: str | None, first: int = 0, until_s: float | None = None
) -> Findings:
    """All targets, or one."""
    shares = {name: share for name, (_, share) in TARGETS.items() if target in (None, name)}
    findings = Findings()
    for name, share in shares.items():
        count = max(1, round(inputs * share / sum(shares.values())))
        made = TARGETS[name][0](seed)
        began_s = time.monotonic()
        # each target its part of what is left of the time
        left = sum(list(shares.values())[list(shares).index(name) :])
        end_s = None if until_s is None else began_s + (until_s - began_s) * share / left
        try:
            found = run(made, seed=seed, inputs=count, first=first, until_s=end_s)
        finally:
            made.close()
        took_s = time.monotonic() - began_s
        print(f"{name:9} {found}, {1e6 * took_s / found.inputs:.0f} us each", flush=True)
        findings += found
    return findings


def main() -> None:
    """Reads the command line, and runs."""
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9))
    parser.add_argument("--minutes", type=float, help="end after so many, with fewer inputs")
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    until_s = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    findings = fuzz(
        seed=asked.seed,
        inputs=asked.inputs,
        target=asked.target,
        first=asked.first,
        until_s=until_s,
    )
    print(f"fuzz: {findings}")
    sys.exit(1 if findings.failed else 0)


if __name__ == "__main__":
    main()
