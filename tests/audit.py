"""Are there known flaws in what the locks name? `make audit` asks pip-audit.

pip-audit runs in an environment of uv's own: with it in the development lock, seventeen packages
that no test needs would be in there too. What its database does not know it passes over, and says
that all is well, so what it passed over is counted here.

Exit 0: none is known. 1: some are. 3: that cannot be told from here.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KNOWN, UNREACHABLE = 1, 3
_PIP_AUDIT = "pip-audit==2.10.1"
_TIMEOUT_S = 600.0


def main() -> None:
    """Audits all locks."""
    uv = str(Path(sys.executable).with_name("uv"))
    locks = [part for lock in sorted(Path("requirements").glob("*.txt")) for part in ("-r", lock)]
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json"]
    try:
        done = subprocess.run(
            [uv, "tool", "run", "--quiet", "--from", _PIP_AUDIT, "pip-audit", *options, *locks],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        lines, status = judged(done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        lines, status = _unreachable("no answer in time")
    print("\n".join(lines))
    sys.exit(status)


def judged(output: str, errors: str) -> tuple[Sequence[str], int]:
    """What to print, and the exit code, of what pip-audit printed as JSON and on stderr."""
    try:
        found: Sequence[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _unreachable((errors.strip().splitlines() or ["pip-audit says nothing"])[-1])
    flaws = [
        f"{one['name']} {one['version']}: {flaw['id']},"
        f" fixed in {', '.join(flaw['fix_versions']) or 'no release'}"
        for one in found
        for flaw in one.get("vulns", ())
    ]
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if flaws:
        return [*flaws, f"audit: {len(flaws)} known flaws in {len(found)} packages"], KNOWN
    if skipped or not found:
        return _unreachable(f"{len(skipped)} of {len(found)} packages could not be looked up")
    return [f"audit: no known flaw in {len(found)} packages"], 0


def _unreachable(why: str) -> tuple[Sequence[str], int]:
    return [f"audit: whether flaws are known cannot be told from here: {why}"], UNREACHABLE


if __name__ == "__main__":
    main()
