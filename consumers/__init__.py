"""Takes records from a log and keeps them in tables, each event once.

The path of a record, in the order in which to read the files:

1. `sources/` polls the log: `embedded` reads a local file, `kafka` a cluster. A source returns
   records together with the offsets that they bring it to.
2. `decoder` turns a record into its rows, or calls it a `Poison`, which becomes a dead letter.
3. `projections/` turn an envelope into rows: `events` one for every event, `typed` one in the
   table of its type, `course_copies` the lineage of copied courses.
4. `batch` holds rows, dead letters and the offsets that they cover, within bounds.
5. `dead_letter` keeps records without rows, before anything says that they were dealt with: in a
   file (`dead_letter_embedded`) or a topic (`dead_letter_kafka`).
6. `sinks/` write the rows and the offsets in one transaction, leaving out rows that are there.

`worker` takes these steps in this order and is the only one that does. `wiring` builds the parts,
`app` runs them, `commands/` are what people type, `replay` what they can do about dead letters.
`values` goes from step to step, `errors` is what may go wrong, `metrics` what is counted, `retry`
how what cannot be had for the moment is tried again.
"""
