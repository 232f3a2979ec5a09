"""A real PostgreSQL server for tests and for the laptop; `python -m tests.postgres`."""
