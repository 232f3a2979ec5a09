"""Spoilt inputs for everything that reads what others wrote: `make fuzz`.

Valid tokens, bodies and files are spoilt at random, and read. Nothing may fail but with the errors
that a reader declares, nothing forged or changed may be let in, and what is let in, PyJWT and
joserfc let in too, with equal claims. Each input has random numbers of its own, made of the seed
and the input's number, so that a failure is repeated alone.
"""
