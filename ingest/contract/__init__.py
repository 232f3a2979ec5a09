"""What ingest and consumers agree on; all that a consumer may import of ingest.

Read in this order: `envelope` (the value), `catalogue` (the event types), `metadata` (what they
share), `topics` (where a value goes), `record` and `codec` (how it is written), `quarantine` (what
is kept apart), `eventlog` (the embedded log's file). `schemas`, `asyncapi`, `published` and
`compatibility` describe it to subscribers. `operating` is what both programs show their operators.
Nothing here imports anything else of ours.
"""
