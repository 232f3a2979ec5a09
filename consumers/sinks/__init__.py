"""Where rows go: `base` is the port, `memory` the reference, `duckdb` a file, `postgres` and
`clickhouse` servers.

Rows are there before or with their offsets; rows whose `event_id` a table has are left out.
"""
