"""`python -m tests.emulator`."""

from tests.emulator.cli import cli

cli(prog_name="python -m tests.emulator")
