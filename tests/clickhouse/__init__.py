"""ClickHouse's own engine as a server for tests.

`chdb` is the engine as a Python package, one to a process, in an environment of its own. `front` is
such a process, with as much of the server's HTTP interface before it as clickhouse-connect needs;
`engine` starts, kills and starts it again on the same directory; `fixture` has one for the session,
or the server that `TEST_CLICKHOUSE_URL` names.
"""
