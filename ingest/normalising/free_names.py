"""Names that are given once, where several things want the same."""

from collections.abc import Iterable


class FreeNames:
    """Gives each name once: `name`, or the first of `name__2`, `name__3`… that is not taken.

    It goes on where it last stopped for a name, so that many who want the same one cost no more.
    """

    __slots__ = ("_counts", "_taken")

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def give(self, name: str) -> str:
        """The name that `name` gets; it is taken from now on."""
        free = name
        if name in self._taken:
            count = self._counts.get(name, 1)
            while free in self._taken:
                count += 1
                free = f"{name}__{count}"
            self._counts[name] = count
        self._taken.add(free)
        return free
