"""Strangers at the gate: attacks on a real receiver, each with genuine traffic beside it.

`make siege` runs them all; rows 17 and 32 of the fault matrix are these same cases.
"""
