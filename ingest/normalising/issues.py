"""Paths of values that did not fit, within a bound: each path has the names around its value."""

Issues = list[str]
"""Paths of the values that did not fit, `metadata.…` or `body.…`.

All of declared fields; of others the first `MAX_ISSUES`, and then `MORE` once.
"""

Path = str | tuple["Path", str | int]
"""Where a value is: text, or where the object or array around it is, and its name or index there.

It becomes text only for an issue: each text has the names of all that is around it.
"""

MAX_ISSUES = 1_000
MORE = "…"
"""Stands for further issues, and for the rest of a path that is longer than 1,000 characters."""

_MAX_PATH_LENGTH = 1_000


def note(issues: Issues, path: Path) -> None:
    """Names one more value that is no declared field, within the bound."""
    if len(issues) < MAX_ISSUES:
        issues.append(path_text(path))
    elif issues[-1] is not MORE:
        issues.append(MORE)


def once(issues: Issues) -> Issues:
    """Each path once: what became visible may not fit its type either."""
    return list(dict.fromkeys(issues))


def path_text(path: Path) -> str:
    """`body.a[0].b`"""
    parts: list[str] = []
    while not isinstance(path, str):
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step[:_MAX_PATH_LENGTH]}")
    whole = "".join([path[:_MAX_PATH_LENGTH], *reversed(parts)])
    return whole if len(whole) <= _MAX_PATH_LENGTH else whole[: _MAX_PATH_LENGTH - 1] + MORE
