"""The fault matrix: what must hold while things break, tried out on the real parts.

From the outside in: `python -m tests.faults` (`__main__`) runs the rows of `matrix`, whose cases
are in `rows`. A case asks `grounds` for a `site`: receiver, worker (`programs`), Kafka, the `proxy`
between them, and the emulated Canvas with its `witness`. `watching` looks at ledger and memory
meanwhile, `kept` at what topics and tables hold in the end, `judging` counts and comes to a
`verdict`. `crashing` starts a program that kills itself at a named point, and `results` writes down
what came out.
"""
