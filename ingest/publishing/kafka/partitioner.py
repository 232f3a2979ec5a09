"""Kafka's own partitioning of keys, so that any client finds a key where it expects it.

Source: Apache Kafka, org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner.
"""

from aiokafka.partitioner import murmur2 as _pure_murmur2

_SEED = 0x9747B28C

try:
    from murmurhash2 import murmurhash2 as _fast_murmur2
except ImportError:  # no wheel for this platform: the same hash, 70 times slower

    def murmur2(key: bytes) -> int:
        """The 32-bit hash of a key, unsigned."""
        return int(_pure_murmur2(key)) & 0xFFFFFFFF

else:

    def murmur2(key: bytes) -> int:
        """The 32-bit hash of a key, unsigned."""
        return int(_fast_murmur2(key, _SEED))


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
