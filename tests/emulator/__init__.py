"""A stand-in for Canvas's sending side: it signs, posts, and remembers what was answered.

It knows nothing of the receiver's code, so that it can be the judge of it. From the inside out:
`corpus` (examples) → `variation` (each event different) → `school` (claims) → `forgeries` (bad
requests) → `traffic` (what is sent, in which order) → `sender` (HTTP) → `oracle` (what was
promised); `key_server` shows the keys; `canvas` ties them together; `python -m tests.emulator`
runs it.
"""
