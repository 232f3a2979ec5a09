"""Which events were durable lately: the latest so many, and what became of each."""

from ingest.publishing.recent_ids import MAX_IDS, RecentIds


def test_id_is_known_with_its_outcome_once_it_was_added() -> None:
    recent = RecentIds()
    recent.add("a", "spooled")
    recent.add("b", "published")
    assert [recent.outcome_of(id_) for id_ in "abc"] == ["spooled", "published", None]


def test_first_outcome_stays() -> None:
    recent = RecentIds()
    recent.add("a", "spooled")
    recent.add("a", "published")
    assert recent.outcome_of("a") == "spooled"


def test_latest_so_many_are_known_and_no_more() -> None:
    recent = RecentIds()
    for n in range(3 * MAX_IDS):
        recent.add(f"{n:064x}", "published")
    known = [n for n in range(3 * MAX_IDS) if recent.outcome_of(f"{n:064x}")]
    assert known == list(range(2 * MAX_IDS, 3 * MAX_IDS))
    assert MAX_IDS >= 100_000
