"""A stand-in for Canvas's sending side: it signs, posts, retries, and remembers what was answered.

It knows nothing of the receiver's code, so that it can be the judge of it. From the inside out:
`corpus` (examples) → `variation` (each event different) → `school` (claims) → `forgeries` (bad
requests) → `traffic` (what is sent, in which order) → `sender` (HTTP; `pace`, `retry_plan` and
`waiting` say when) → `oracle` (what was promised), `budget` (Canvas's budget), `report`;
`key_server` shows the keys and breaks on demand; `canvas` ties them together; `python -m
tests.emulator` runs it.
"""
