"""The spool's files against a model: append, defer, forget, kill and damage, in any order.

What was acknowledged and not forgotten is always there; what comes out was always put in.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.spool.files.directory import Opening, SpoolDirectory
from ingest.spool.files.rows import Held, HeldToken, Item, NewRecord
from ingest.spool.files.store import FILE_NAME
from ingest.values import SignedRequest

_ROOMY = 1 << 30
_PAGE = 4_096
_WAL = f"{FILE_NAME}-wal"
_Place = tuple[str, int]  # table and id

_SOURCES: st.SearchStrategy[Source] = st.sampled_from(["live-events", "pns"])
_HEADERS = st.tuples(st.sampled_from(["ce_id", "x"]), st.sampled_from([b"", "ü".encode()]))
_VALUES = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 40_000).map(lambda size: b"x" * size),  # some of them over several pages
)
_RECORDS = st.builds(
    NewRecord,
    record=st.builds(
        Record,
        topic=st.sampled_from(["a", "b", "c"]),
        key=st.binary(max_size=8),
        value=_VALUES,
        headers=st.lists(_HEADERS, max_size=2).map(tuple),
    ),
    source=_SOURCES,
)
_TOKENS = st.builds(
    SignedRequest,
    token=_VALUES,
    source=_SOURCES,
    received_at=st.floats(0, 2e9),
    traceparent=st.sampled_from([None, "00-1-2-01"]),
)
_ITEMS: st.SearchStrategy[Item] = st.one_of(_RECORDS, _TOKENS)


class _SpoolAgainstModel(RuleBasedStateMachine):
    """`model` holds what is to be there, by id; `ever` all that was ever appended."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.place = self.folder / "spool"
        self.directory, _ = SpoolDirectory.open(self.place, reserve_bytes=0)
        self.model: dict[_Place, Item] = {}
        self.ever: dict[_Place, Item] = {}
        self.last_ids = {"record": 0, "token": 0}
        self.copies = 0

    @rule(items=st.lists(_ITEMS, min_size=1, max_size=5))
    def append(self, items: list[Item]) -> None:
        self.directory.file.append(items, max_bytes=_ROOMY)
        for item in items:
            table = "record" if isinstance(item, NewRecord) else "token"
            self.last_ids[table] += 1
            self.model[table, self.last_ids[table]] = item
        self.ever |= self.model

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.model)), min_size=1, unique=True))
        self.directory.file.forget([id_ for table, id_ in gone if table == "record"])
        self.directory.file.forget_tokens([id_ for table, id_ in gone if table == "token"])
        for place in gone:
            del self.model[place]

    @rule(pages=st.integers(1, 20))
    def give_back(self, pages: int) -> None:
        self.directory.file.give_back(pages)

    @rule()
    def checkpoint(self) -> None:
        """As SQLite does from time to time by itself."""
        self.directory.file._connection.execute("pragma wal_checkpoint(passive)").fetchall()

    @rule()
    def close_and_reopen(self) -> None:
        self.directory.close()
        self.directory, opening = SpoolDirectory.open(self.place, reserve_bytes=0)
        assert opening.unreadable == 0

    @rule()
    def be_killed_and_started_again(self) -> None:
        self.place = self._copy()
        self.directory.close()
        self.directory, opening = SpoolDirectory.open(self.place, reserve_bytes=0)
        assert opening.unreadable == 0

    @rule(share=st.floats(0, 1))
    def find_the_write_ahead_log_cut(self, share: float) -> None:
        place = self._copy()
        _cut(place / _WAL, share)
        with _opened(place) as (directory, _):
            self._check_came_from_us(_all(directory))

    @rule(share=st.floats(0, 1), byte=st.integers(1, 255))
    def find_a_byte_of_the_write_ahead_log_changed(self, share: float, byte: int) -> None:
        place = self._copy()
        wal = place / _WAL
        text = bytearray(wal.read_bytes() if wal.exists() else b"")
        if text:
            text[int(share * (len(text) - 1))] ^= byte
            wal.write_bytes(text)
        with _opened(place) as (directory, _):
            self._check_came_from_us(_all(directory))

    @rule(share=st.floats(0, 1))
    def find_the_file_cut(self, share: float) -> None:
        place = self._whole_copy()
        _cut(place / FILE_NAME, share)
        with _opened(place) as (directory, _):
            self._check_came_from_us(_all(directory))

    @rule(share=st.floats(0, 0.999), fill=st.sampled_from([b"\0", b"\xa5", b"\xff"]))
    def find_a_page_overwritten(self, share: float, fill: bytes) -> None:
        place = self._whole_copy()
        path = place / FILE_NAME
        with path.open("r+b") as file:
            file.seek(int(share * (path.stat().st_size // _PAGE)) * _PAGE)
            file.write(fill * _PAGE)
        with _opened(place) as (directory, opening):
            held = _all(directory)
            self._check_came_from_us(held)
            kept = [each for each in held if not each.damaged]
            gone = opening.unreadable + _count(opening) - len(kept)
            # nothing goes silently, but where not even the number can be read it is one
            assert len(kept) == len(self.model) or gone > 0

    @invariant()
    def what_a_kill_would_leave_now_is_the_model(self) -> None:
        with _opened(self._copy()) as (directory, opening):
            assert opening.unreadable == 0
            assert _contents(_all(directory)) == _in_order(self.model)
            assert _count(opening) == len(self.model)

    @invariant()
    def what_is_read_is_the_model(self) -> None:
        held = _all(self.directory)
        assert {_place_of(each): _content(each) for each in held} == self.model
        for topic in ("a", "b"):
            alone = self.directory.file.read_topics([topic], after=0, limit=9_999, max_bytes=_ROOMY)
            assert [_content(each) for each in alone] == [
                item
                for item in _in_order(self.model)
                if isinstance(item, NewRecord) and item.record.topic == topic
            ]

    def _check_came_from_us(self, held: list[Held | HeldToken]) -> None:
        put_in = list(self.ever.values())
        for content in _contents([each for each in held if not each.damaged]):
            assert content in put_in

    def _copy(self) -> Path:
        """The files as they are, in a directory of their own."""
        self.copies += 1
        place = self.folder / f"copy-{self.copies}"
        place.mkdir()
        for name in (FILE_NAME, _WAL):
            if (self.place / name).exists():
                shutil.copyfile(self.place / name, place / name)
        return place

    def _whole_copy(self) -> Path:
        """The same with all of it in the one file."""
        place = self._copy()
        with closing(sqlite3.connect(place / FILE_NAME)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        return place

    def teardown(self) -> None:
        self.directory.close()
        shutil.rmtree(self.folder)


@contextmanager
def _opened(place: Path) -> Iterator[tuple[SpoolDirectory, Opening]]:
    """A copy, which is gone afterwards."""
    directory, opening = SpoolDirectory.open(place, reserve_bytes=0)
    try:
        yield directory, opening
    finally:
        directory.close()
        shutil.rmtree(place)


def _all(directory: SpoolDirectory) -> list[Held | HeldToken]:
    """Everything; a file that turns out to be damaged in reading is rebuilt, once."""
    try:
        return _read(directory)
    except sqlite3.DatabaseError:
        directory.rebuild_file()
        return _read(directory)


def _read(directory: SpoolDirectory) -> list[Held | HeldToken]:
    return [
        *directory.file.read(after=0, limit=9_999, max_bytes=_ROOMY),
        *directory.file.read_tokens(after=0, limit=9_999, max_bytes=_ROOMY),
    ]


def _content(held: Held | HeldToken) -> Item:
    if isinstance(held, HeldToken):
        return held.request
    return NewRecord(record=held.record, source=held.source)


def _contents(held: list[Held | HeldToken]) -> list[Item]:
    return [_content(each) for each in held]


def _place_of(held: Held | HeldToken) -> _Place:
    if isinstance(held, HeldToken):
        return ("token", held.id)
    return ("record", held.stored.offset)


def _in_order(model: dict[_Place, Item]) -> list[Item]:
    return [item for _, item in sorted(model.items(), key=lambda each: each[0])]


def _count(opening: Opening) -> int:
    found = opening.contents
    return sum(each.records for each in found.records) + sum(each.tokens for each in found.tokens)


def _cut(path: Path, share: float) -> None:
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(int(share * path.stat().st_size))


TestSpoolAgainstModel = _SpoolAgainstModel.TestCase
TestSpoolAgainstModel.settings = settings(
    max_examples=settings().max_examples // 8, stateful_step_count=12, deadline=None
)


@given(batches=st.lists(st.lists(_ITEMS, min_size=1, max_size=3), min_size=1, max_size=6))
@settings(max_examples=settings().max_examples // 16, deadline=None)
def test_write_ahead_log_cut_at_any_frame_leaves_a_state_that_once_was(
    batches: list[list[Item]],
) -> None:
    """Before any checkpoint the log is the history: each commit is there whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "spool"
        directory, _ = SpoolDirectory.open(place, reserve_bytes=0)
        directory.file._connection.execute("pragma wal_autocheckpoint=0")
        directory.file._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        states: list[dict[_Place, Item]] = [{}]
        for items in batches:
            directory.file.append(items, max_bytes=_ROOMY)
            states.append(_after(states[-1], items))
        main, wal = (place / FILE_NAME).read_bytes(), (place / _WAL).read_bytes()
        directory.close()
        ends = {0, 31, 32, *range(56, len(wal), _frame_step(len(wal))), len(wal)}
        seen = [_state_after(Path(folder) / f"cut-{end}", main, wal[:end]) for end in ends]
        once = [_in_order(state) for state in states]
        assert all(state in once for state in seen)
        assert once[-1] in seen


def _after(state: dict[_Place, Item], items: list[Item]) -> dict[_Place, Item]:
    after = dict(state)
    for item in items:
        table = "record" if isinstance(item, NewRecord) else "token"
        after[table, 1 + sum(place[0] == table for place in after)] = item
    return after


def _frame_step(size_bytes: int) -> int:
    """Ends that fall upon, into and between frames, about thirty of them."""
    return max(997, size_bytes // 30)


def _state_after(place: Path, main: bytes, wal: bytes) -> list[Item]:
    place.mkdir()
    (place / FILE_NAME).write_bytes(main)
    (place / _WAL).write_bytes(wal)
    with _opened(place) as (directory, opening):
        assert opening.unreadable == 0
        return _contents(_all(directory))


def test_flipped_bit_anywhere_in_a_row_stops_nobody(tmp_path: Path) -> None:
    place = tmp_path / "spool"
    with_bit = tmp_path / "with-bit"
    items = [
        NewRecord(record=Record(topic="t" * 9, key=b"key", value=b"%d" % n), source="pns")
        for n in range(3)
    ]
    directory, _ = SpoolDirectory.open(place, reserve_bytes=0)
    directory.file.append(items, max_bytes=_ROOMY)
    directory.close()
    text = (place / FILE_NAME).read_bytes()
    begin = text.index(b"t" * 9)
    for at in range(begin - 24, begin + 30):
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            with_bit.mkdir()
            (with_bit / FILE_NAME).write_bytes(changed)
            with _opened(with_bit) as (opened, _):
                sound = [each for each in _all(opened) if not each.damaged]
            assert len(sound) >= 1
            assert all(_content(each) in items for each in sound)
