"""A stand-in for Canvas's sending side: it signs, posts, retries, and remembers what was answered.

It knows nothing of the receiver's code, so that it can be the judge of it. From the inside out:
`corpus` (examples) → `variation` (each event different) → `messages` → `school` (claims) → `story`
(weeks of it that make sense) → `forgeries` (bad requests) → `traffic`, `story_jobs` (what is sent,
in which order) → `sender` (HTTP; `pace`, `retry_plan` and `waiting` say when) → `oracle` (what was
promised), `budget` (Canvas's budget), `report`; `key_server` shows the keys and breaks on demand,
`key_desk` rotates them; `canvas` ties them together; `python -m tests.emulator` runs it.
"""
