"""Golden envelopes: ingest writes them, every projection reads them. `python -m tests.contract`."""
