"""How much of this machine's processor time the hypervisor gave to others meanwhile."""

from __future__ import annotations

import psutil


class Stolen:
    """Counts from when it is made. Source: proc_stat(5), `steal`; nothing where there is none."""

    def __init__(self) -> None:
        self._stolen_s, self._all_s = _read()

    def share(self) -> float:
        """Of the processor time since then."""
        stolen_s, all_s = _read()
        return (stolen_s - self._stolen_s) / max(1e-9, all_s - self._all_s)


def _read() -> tuple[float, float]:
    times = psutil.cpu_times()
    # guest time is in user time already
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return getattr(times, "steal", 0.0), sum(times) - guests
