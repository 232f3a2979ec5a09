"""JSON-like values: what is regular, and what only a lenient parser would read."""

from typing import Any

from hypothesis import strategies as st

from ingest.values import HugeNumber

_PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
_ODD_TEXT = st.text(
    st.characters(codec=None, exclude_categories=[]) | st.sampled_from("\x00\ud800")
)
NAMES = st.sampled_from(
    ["id", "user_id", "group_ids", "tenant", "tenant__2", "event_id", "issues", "event_time", "a"]
)


def _nested(
    leaves: st.SearchStrategy[Any], names: st.SearchStrategy[str]
) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(names | NAMES, inner, max_size=4)
        ),
        max_leaves=12,
    )


_REGULAR_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _PLAIN_TEXT
)
REGULAR = _nested(_REGULAR_LEAVES, _PLAIN_TEXT)
"""What any JSON parser reads and any store takes."""

REGULAR_OBJECTS = st.dictionaries(_PLAIN_TEXT | NAMES, REGULAR, max_size=5)

_ODD_LEAVES = (
    _REGULAR_LEAVES
    | _ODD_TEXT
    | st.floats()
    | st.integers()
    | st.integers(min_value=2**63, max_value=10**60)
    | st.sampled_from(["1e400", "-9e999"]).map(HugeNumber)
    | st.sampled_from(["2026-01-02T03:04:05+02:00", "2026-01-02 03:04:05 -0600", "12.50", "7"])
)
ODD = _nested(_ODD_LEAVES, _ODD_TEXT)
"""Whatever `read_claims` may hand on."""

ODD_OBJECTS = st.dictionaries(_ODD_TEXT | NAMES, ODD, max_size=5)
