"""Takes records from a log and lays them out as tables, each event once.

The path of a record, in the order in which to read the files:

1. `sources/` polls the log: `embedded` reads a local file, `kafka` a cluster. A source hands over
   records together with the offsets that they bring it to.
2. `decoder` turns a record into an envelope, or calls it a `Poison`, which becomes a dead letter.
3. `projections/` turn an envelope into rows: `events` one for every event, `typed` one in the
   table of its type, `course_copies` the lineage of copied courses.
4. `batch` gathers rows, dead letters and the offsets that they cover, within bounds.
5. `dead_letter` keeps unreadable records, before anything says that they were dealt with.
6. `sinks/` write the rows and the offsets in one transaction, leaving out rows that are there.

`worker` takes these steps in this order and is the only one that does. `app` builds the parts,
`cli` starts it, `handover` holds the values that go from step to step, `errors` what may go wrong
and `metrics` what is counted. `retry` tries again what others hold up; `cluster` is what both
users of Kafka share.
"""
