"""Dead letters once more: their rows into the store, or the decision that nobody wants them."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.batch import Batch, BatchBuilder
from consumers.dead_letters.dead_letter import DeadLetters, Decision, Letter, decision_record
from consumers.decoder import read_rows
from consumers.errors import Poison
from consumers.values import Projection, Row

LETTERS_AT_ONCE = 200

Write = Callable[[Batch], Awaitable[object]]
"""Has a batch written, once the store is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a letter; `why` is set where it stays."""

    place: str
    outcome: str
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Decides about letters of one worker. A dry run writes nothing anywhere.

    `on_progress` is told how many more letters are dealt with.
    """

    kept: DeadLetters
    write: Write
    project: Projection
    prefix: str
    worker: str
    dry_run: bool = False
    on_progress: Callable[[int], object] = lambda more: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def replay(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Rows first, the decision after them: what is repeated in between changes nothing.

        Raises what `write` raises, with the decisions about earlier parts kept.
        """
        outcomes: list[Outcome] = []
        for part in _parts(letters):
            outcomes += await self._replay(part)
            self.on_progress(len(part))
        return outcomes

    async def drop(self, letters: Sequence[Letter]) -> list[Outcome]:
        """They stay where they are, and are no longer open."""
        outcomes: list[Outcome] = []
        for part in _parts(letters):
            outcomes += await self._decide(part, "dropped")
            self.on_progress(len(part))
        return outcomes

    async def _replay(self, letters: Sequence[Letter]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        readable: list[Letter] = []
        batch = BatchBuilder(epoch=0, max_rows=0, max_bytes=0)
        for letter in letters:
            rows = self._rows(letter)
            if isinstance(rows, Poison):
                outcomes.append(Outcome(place=letter.place, outcome="stays", why=rows.reason))
            else:
                batch.add(rows)
                readable.append(letter)
        if readable and not self.dry_run:
            await self.write(batch.freeze("dead letters"))
        return outcomes + await self._decide(readable, "replayed")

    async def _decide(self, letters: Sequence[Letter], decision: Decision) -> list[Outcome]:
        at = self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if letters and not self.dry_run:
            await self.kept.append(
                [
                    decision_record(letter, decision, at=at, prefix=self.prefix, worker=self.worker)
                    for letter in letters
                ]
            )
        done = f"would be {decision}" if self.dry_run else decision
        return [Outcome(place=letter.place, outcome=done) for letter in letters]

    def _rows(self, letter: Letter) -> Sequence[Row] | Poison:
        try:
            return read_rows(letter.record, self.project)
        except Poison as poison:
            return poison


def _parts(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    for at in range(0, len(letters), LETTERS_AT_ONCE):
        yield letters[at : at + LETTERS_AT_ONCE]
