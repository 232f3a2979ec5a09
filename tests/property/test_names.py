"""Names that are given where others have them already: the same ones, however they are found."""

import random
import re
from collections.abc import Container, Iterable

from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.tables import MAX_NAME_BYTES, TYPED_HEAD, column_names, text_column
from ingest.normalising.free_names import FreeNames
from tests.support.steps import lines_run

_LONG = "a" * (MAX_NAME_BYTES - 5)
_ENDINGS = [
    "",
    "__2",
    "__3",
    "__9",
    "__10",
    "__11",
    "__2__2",
    "__text",
    "é",
    "É",
    "_",
    "bbbb",
    "bbbbbbb",
]
_NAMES = st.builds(
    "{}{}".format,
    st.sampled_from(["", "a", "tenant", _LONG, _LONG[:-1], _LONG[:-2]]),
    st.sampled_from(_ENDINGS) | st.text(max_size=3),
)
_MANY_ALIKE = st.builds(
    lambda name, count: [f"{name}{'' if n % 3 else 'é'}{chr(0x100 + n)}" for n in range(count)],
    st.sampled_from(["", "a", _LONG, _LONG[:-4]]),
    st.integers(min_value=0, max_value=130),
)
_MOST_LINES_A_NAME = 60


def _columns_one_by_one(fields: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """What a column is called, written as plainly as it can be said."""
    used, names = set(taken), {}
    for field in fields:
        wanted = re.sub(r"[^a-z0-9_]", "_", field.lower()) or "_"
        name, number = wanted, 1
        while name in used or text_column(name) in used or len(name) > MAX_NAME_BYTES:
            number += 1
            suffix = f"__{number}"
            name = wanted[: MAX_NAME_BYTES - len(suffix)] + suffix
        used |= {name, text_column(name)}
        names[field] = name
    return names


def _free(name: str, taken: Container[str]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}__{count}"
    return free


@given(fields=st.lists(_NAMES), alike=_MANY_ALIKE, taken=st.lists(_NAMES), seed=st.integers())
def test_columns_are_called_what_they_always_were(
    fields: list[str], alike: list[str], taken: list[str], seed: int
) -> None:
    every = [*fields, *alike]
    random.Random(seed).shuffle(every)
    used = {*TYPED_HEAD, *taken}
    assert column_names(every, taken=used) == _columns_one_by_one(every, used)


@given(names=st.lists(_NAMES | st.sampled_from(["a", "a__2", "a__3"])), taken=st.lists(_NAMES))
def test_a_taken_name_gets_the_first_number_that_is_free(
    names: list[str], taken: list[str]
) -> None:
    used, free_names = set(taken), FreeNames(taken)
    for name in names:
        free = _free(name, used)
        assert free_names.give(name) == free
        used.add(free)


def test_a_column_costs_the_same_however_many_want_its_name() -> None:
    fields = [_LONG + chr(0x100 + n) * 9 for n in range(2_000)]
    lines = lines_run(lambda: column_names(fields, taken=()))
    assert lines < _MOST_LINES_A_NAME * len(fields)
