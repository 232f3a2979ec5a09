"""The table of faults: what is broken, by which cases, or what of the project will bring them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.grounds import Grounds
from tests.faults.rows import (
    background,
    crashes,
    disks,
    ending,
    half_outages,
    kafka_brokers,
    kafka_link,
    kafka_topics,
    keys,
    outages,
    parked,
    promise,
    repeats,
    replays,
    shapes,
    slow_acks,
    spool_files,
    spool_writes,
    tls,
    tokens,
    worker,
)
from tests.faults.verdict import Tally, Violation
from tests.kafka.errors import KafkaUnavailable
from tests.siege import cases as siege

Run = Callable[[Grounds, int], Awaitable[Tally]]
"""Takes the grounds and a seed; raises where the case cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to break something. `quick` ones are part of `make test`."""

    name: str
    run: Run
    quick: bool

    async def tally(self, grounds: Grounds, seed: int) -> Tally:
        """What the case comes to; whatever ends it early is a violation, but a missing broker.

        Raises KafkaUnavailable.
        """
        try:
            return await self.run(grounds, seed)
        except KafkaUnavailable:
            raise
        except Exception as error:  # the others are to run
            seen = f"{type(error).__name__}: {error}"
            return Tally(violations=(Violation(invariant="case", seen=seen),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault. `pending` names what of the project will bring its cases, or more of them.

    Cases that send much, or hold something against a clock, have the machine `alone`.
    """

    number: int
    fault: str
    cases: tuple[Case, ...] = ()
    pending: str = ""
    alone: bool = False


def _quick(*runs: Run) -> tuple[Case, ...]:
    return tuple(Case(name=_name(run), run=run, quick=True) for run in runs)


def _long(*runs: Run) -> tuple[Case, ...]:
    return tuple(Case(name=_name(run), run=run, quick=False) for run in runs)


def _name(run: Run) -> str:
    return run.__name__  # type: ignore[attr-defined, no-any-return, unused-ignore]


ROWS: Final = (
    Row(
        number=1,
        alone=True,
        fault="the broker refuses, swallows or resets connections, or answers too slowly",
        cases=(
            *_quick(kafka_link.broker_refuses),
            *_long(
                kafka_link.broker_is_a_black_hole,
                kafka_link.broker_answers_late,
                kafka_link.link_is_throttled,
                kafka_link.answers_reset_in_the_middle,
            ),
        ),
    ),
    Row(
        number=2,
        alone=True,
        fault="of three brokers the leader is killed, each is restarted, two are stopped",
        cases=_long(
            kafka_brokers.leader_killed,
            kafka_brokers.rolling_restart,
            kafka_brokers.too_few_in_sync,
        ),
    ),
    Row(
        number=3,
        alone=True,
        fault="the broker appends, and its acknowledgement does not arrive",
        cases=(*_quick(kafka_link.acknowledgements_lost), *_long(kafka_link.acknowledgements_cut)),
    ),
    Row(
        number=4,
        fault="a topic is missing, or denied to us, or takes no record as large as this one",
        cases=_long(
            kafka_topics.record_too_large,
            kafka_topics.writing_denied,
            kafka_topics.topic_missing,
        ),
    ),
    Row(
        number=5,
        fault="the receiver is killed at each of its steps",
        cases=_long(
            crashes.crash_before_the_answer,
            crashes.crash_while_draining,
            crashes.crash_while_keys_fail,
            crashes.crash_around_quarantine,
            crashes.crash_around_the_reserve,
        ),
    ),
    Row(
        number=6,
        fault="the receiver is told to end in mid-body, and killed before its spool is empty",
        cases=(*_long(ending.sigterm_in_mid_body, ending.killed_before_it_has_drained),),
    ),
    Row(
        number=7,
        fault="the spool's disk is full, read-only, slow, or fails, while Kafka is out of reach",
        cases=(
            *_quick(disks.disk_full_but_for_the_reserve),
            *_long(disks.disk_fails, disks.disk_is_slow, disks.disk_full_and_broker_down),
        ),
    ),
    Row(
        number=8,
        fault="the spool's file is torn, cut, altered, or of another version",
        cases=(
            *_quick(spool_files.flipped_bit),
            *_long(
                spool_files.torn_tail,
                spool_files.flipped_bit_in_the_write_ahead_log,
                spool_files.truncated_file,
                spool_files.wrong_version,
                spool_files.garbage_header,
                spool_files.spoilt_free_pages,
                spool_files.flipped_bit_while_it_runs,
            ),
        ),
    ),
    Row(
        number=9,
        fault="the receiver's pod is gone, or its node; its volume is left, or has two owners",
        pending="chart",
    ),
    Row(
        number=10,
        fault="the key source fails in each way there is, at a cold start and across rotations",
        cases=(
            *_quick(keys.key_source_fails_at_a_cold_start),
            *_long(
                keys.key_source_fails_in_mid_run,
                keys.key_source_down_for_a_minute,
                keys.flood_while_the_key_source_fails,
            ),
        ),
    ),
    Row(
        number=11,
        fault="keys rotate in mid-burst; the next key is used early, the previous one late",
        cases=_long(keys.next_key_early_and_previous_key_late, keys.rotation_in_mid_burst),
    ),
    Row(
        number=12,
        alone=True,
        fault="ten thousand tokens with random key ids, and a new key in the middle of them",
        cases=_long(tokens.random_kids),
    ),
    Row(
        number=13,
        fault="forged and misshapen tokens: algorithms, headers, key ids, signatures, nesting",
        cases=_long(tokens.every_forgery, tokens.odd_headers),
    ),
    Row(
        number=14,
        fault="a true signature over another school's account, client or deployment",
        cases=_long(tokens.other_schools),
    ),
    Row(
        number=15,
        fault="clocks ahead and behind, expiry at the edge of the leeway, the year 2038",
        cases=_long(tokens.moved_clocks, tokens.clock_behind),
    ),
    Row(
        number=16,
        fault="one event a thousand times, by the same signature and by others",
        cases=_long(repeats.one_event_a_thousand_times),
    ),
    Row(
        number=17,
        alone=True,
        fault="HTTP that means harm: bombs, slow heads and bodies, many connections, two lengths",
        cases=_long(
            siege.plain_bodies,
            siege.packed_bodies,
            siege.bombs,
            siege.bombs_at_once,
            siege.slow_bodies,
            siege.slow_heads,
            siege.endless_heads,
            siege.smuggling,
            siege.garbage,
        ),
    ),
    Row(
        number=18,
        fault="notices: none, one, a thousand, a bad one among good, two schools, one twice",
        cases=_long(repeats.batches_of_notices),
    ),
    Row(
        number=19,
        fault="types, fields and values that nobody has announced, and claims that nobody can read",
        cases=_quick(shapes.shapes_without_notice),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=20,
        fault="one unreadable record in a batch of a thousand",
        cases=_long(worker.poison_in_a_batch),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=21,
        fault="the worker killed at each of its steps, frozen, and joined by another",
        cases=(
            *_quick(worker.worker_killed_at_random),
            *_long(
                worker.worker_crash_points,
                worker.rebalance_in_mid_batch,
                worker.worker_frozen_past_its_session,
            ),
        ),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta",
    ),
    Row(
        number=22,
        fault="the store is down, slow, locked, full, altered, or fails over",
        pending="stores",
    ),
    Row(
        number=23,
        fault="the topics' retention is shorter than the worker's outage",
        pending="stores",
    ),
    Row(
        number=24,
        fault="dead letters replayed beside live traffic, the replay killed at each of its steps",
        cases=_long(replays.dead_letters_replayed_and_killed),
        pending="stores: the same in PostgreSQL, ClickHouse and Delta; replay of history",
    ),
    Row(
        number=25,
        alone=True,
        fault="the receiver is away, for less and for more than Canvas's retries last; or Kafka",
        cases=(
            *_quick(outages.receiver_away_for_a_while),
            *_long(
                outages.receiver_away_for_too_long,
                promise.kafka_away_within_the_spool,
                promise.broker_frozen_and_receiver_killed,
            ),
        ),
    ),
    Row(
        number=26,
        fault="a crash in every write of the spool, on copies of its files",
        cases=_quick(spool_writes.crash_at_every_write),
    ),
    Row(
        number=27,
        alone=True,
        fault="a part of Kafka is down: a partition, a topic, one broker of three, one of two",
        cases=_long(
            half_outages.one_partition_without_a_leader,
            half_outages.one_topic_below_its_in_sync_minimum,
            half_outages.one_broker_of_three_slow,
            half_outages.one_of_two_brokers_killed,
        ),
    ),
    Row(
        number=28,
        alone=True,
        fault="every acknowledgement takes nine tenths of the publish budget",
        cases=_long(slow_acks.every_acknowledgement_late),
    ),
    Row(
        number=29,
        alone=True,
        fault="gigabytes are parked in the spool for a topic that takes nothing",
        cases=_long(parked.gigabytes_parked_for_one_topic),
    ),
    Row(
        number=30,
        fault="the certificate is renewed before its key; the key cannot be read",
        cases=_long(tls.pair_renewed_in_two_steps_and_unreadable),
    ),
    Row(
        number=31,
        fault="each background task of receiver and worker ends with an error",
        cases=_long(
            background.each_task_of_the_receiver,
            background.each_task_beside_the_embedded_log,
            background.each_task_of_the_worker,
        ),
    ),
    Row(
        number=32,
        alone=True,
        fault="strangers: idle connections, forged notices, unknown key ids, replays, wide events",
        cases=_long(
            siege.idle_connections,
            siege.few_descriptors,
            siege.unfinished_handshakes,
            siege.forged_notices,
            siege.forged_notices_without_keys,
            siege.unknown_keys,
            siege.unreadable_claims,
            siege.replays,
            siege.wide_events,
        ),
    ),
)
