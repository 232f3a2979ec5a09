"""Canvas's ids: a local one counts within a shard, a global one is shard * 10^13 + local id.

Canvas's metadata, Caliper and most bodies have global ids, other bodies local ones. As texts, an
id of 14 digits or more is global, and its last 13 are the local id.
Source: Canvas documentation, Live Events: event metadata; canvas-lms lib/canvas/live_events.rb.
"""

LOCAL_DIGITS = 13
"""How many of a global id's digits are the local id."""


def shard_of(known: str | None) -> str | None:
    """The shard of a global id; None for any other id."""
    if known is None or len(known) <= LOCAL_DIGITS or not _is_number(known):
        return None
    return known[:-LOCAL_DIGITS]


def global_id(named: str, shard: str | None) -> str:
    """A local id as a global one; any other id, and one whose shard is unknown, as it is."""
    if shard is None or len(named) > LOCAL_DIGITS or not _is_number(named):
        return named
    return shard + named.zfill(LOCAL_DIGITS)


def _is_number(named: str) -> bool:
    return named.isascii() and named.isdigit()
