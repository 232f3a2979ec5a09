"""Some weeks in the life of a school, told as Canvas would: in order of time, and all of one piece.

From the inside out: `ids`, `times` → `things` (courses, people, what they make) → `people`,
`courses` (who is there, what is taught) → `causes` (who did it, in which request or job) →
`bodies`, `work`, `talk` (what an event says of a thing), `caliper` (the same in that format) →
`narrator` (one event after the other) → `campus` (how things stand), `agenda` (what is due), both
held by `world` → `enrolling`, `opening`, `visiting`, `studying`, `grading`, `teaching`, `tending`
(what happens), `others` (types that the story itself has no use for) → `story` (all of it).
"""
