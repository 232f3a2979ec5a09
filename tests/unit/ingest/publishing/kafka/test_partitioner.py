"""Keys find the partition where every Kafka client expects them."""

import random

import pytest
from aiokafka.partitioner import murmur2 as pure_murmur2

from ingest.publishing.kafka.partitioner import murmur2, partition_of

# Source: Apache Kafka, UtilsTest.testMurmur2, where the hash is a signed 32-bit integer
_KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), _KNOWN.items())
def test_hash_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_hash_agrees_with_the_pure_one_at_every_length() -> None:
    chance = random.Random(20260921)
    for length in range(70):
        for _ in range(10):
            key = chance.randbytes(length)
            assert murmur2(key) == pure_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "signed"), _KNOWN.items())
@pytest.mark.parametrize("partitions", [1, 3, 7, 1000])
def test_partition_is_the_positive_hash_modulo_the_partitions(
    key: bytes, signed: int, partitions: int
) -> None:
    assert partition_of(key, partitions) == (signed & 0x7FFFFFFF) % partitions
