"""What the documents name and this tree does not have yet. Empty once all parts are together."""

FILES = frozenset(
    {
        "consumers/commands/config.py",
        "consumers/commands/dlq.py",
        "consumers/commands/offsets.py",
        "consumers/commands/run.py",
        "consumers/dead_letter_embedded.py",
        "consumers/dead_letter_kafka.py",
        "consumers/replay.py",
        "consumers/sinks/duckdb_file.py",
        "consumers/sinks/duckdb_ids.py",
        "consumers/wiring.py",
        "ingest/contract/moments.py",
        "ingest/spool/accounts.py",
        "ingest/spool/format.py",
        "ingest/spool/limits.py",
        "ingest/spool/ownership.py",
        "ingest/spool/reader.py",
        "ingest/spool/rebuild.py",
        "ingest/spool/rows.py",
        "ingest/spool/upkeep.py",
    }
)

METRICS = frozenset({"forebay_background_restarts_total"})  # of the worker

COMMANDS = frozenset({"dlq", "offsets"})

MAKE = frozenset({"tests"})

LOG_LINES = frozenset(
    {
        (
            "changed certificate cannot be used, the one before it serves on:"
            " put a certificate and its key there"
        ),
        "check its disk and who may write there",
        "free space on its disk",
        "key fetch failed, the keys at hand stay in use",
        "keys can be fetched again",
        "no live event for long: has canvas deactivated the subscription?",
        "spool file damaged",
        "spool rows damaged: moved out of the way, run",
        "spool write failed",
        "worker failed, start it again; what it had not written comes again",
    }
)
