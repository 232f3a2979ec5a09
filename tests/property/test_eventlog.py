"""The embedded log against a list: append, trim, close, open again, in any order."""

import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingest.contract.eventlog.eventlog import EventLog, EventLogReader
from ingest.contract.record import Record

_MAX_BYTES = 1 << 30
_NEVER_MS = 1 << 60
_HEADERS = st.tuples(st.sampled_from(["ce_id", "x"]), st.sampled_from([b"", "ü".encode()]))
_RECORDS = st.builds(
    Record,
    topic=st.sampled_from(["a", "b"]),
    key=st.binary(max_size=8),
    value=st.binary(max_size=40),
    headers=st.lists(_HEADERS, max_size=2).map(tuple),
)


class _LogAgainstList(RuleBasedStateMachine):
    """`model` holds every record ever appended; the log must show it from `trimmed` on."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "log"
        self.log = EventLog.open(self.path, max_bytes=_MAX_BYTES)
        self.model: list[Record] = []
        self.trimmed = 0
        with closing(EventLogReader.open(self.path)) as reader:
            self.log_id = reader.log_id

    @rule(batch=st.lists(_RECORDS, min_size=1, max_size=5))
    def append(self, batch: list[Record]) -> None:
        self.log.append(batch)
        self.model += batch

    @rule(limit=st.integers(min_value=1, max_value=4))
    def trim(self, limit: int) -> None:
        removed = self.log.trim(before_ms=_NEVER_MS, limit=limit)
        assert removed == min(limit, len(self.model) - self.trimmed)
        self.trimmed += removed

    @rule()
    def trim_nothing(self) -> None:
        assert self.log.trim(before_ms=0) == 0

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = EventLog.open(self.path, max_bytes=_MAX_BYTES)

    @rule(offset=st.integers(min_value=0, max_value=30), limit=st.integers(1, 7))
    def read(self, offset: int, limit: int) -> None:
        with closing(EventLogReader.open(self.path)) as reader:
            stored = reader.read(offset, limit=limit)
        first = max(offset, self.trimmed + 1)
        expected = self.model[first - 1 : first - 1 + limit]
        assert [s.offset for s in stored] == list(range(first, first + len(expected)))
        assert [
            Record(topic=s.topic, key=s.key, value=s.value, headers=s.headers) for s in stored
        ] == expected

    @invariant()
    def bounds_are_the_models(self) -> None:
        with closing(EventLogReader.open(self.path)) as reader:
            bounds = reader.bounds()
            assert reader.log_id == self.log_id
        assert (bounds.first, bounds.next) == (self.trimmed + 1, len(self.model) + 1)

    def teardown(self) -> None:
        self.log.close()
        self.folder.cleanup()


TestLogAgainstList = _LogAgainstList.TestCase
TestLogAgainstList.settings = settings(
    max_examples=settings().max_examples // 4, stateful_step_count=20, deadline=None
)
