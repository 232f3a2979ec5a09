"""Where rows go: `base` is the port, `memory` the reference, `duckdb` a file, `postgres` a server.

Rows and offsets are written together; rows whose `event_id` a table has are left out.
"""
