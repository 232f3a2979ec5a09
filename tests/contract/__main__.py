"""Writes the golden files anew: to change one is to change what subscribers see."""

from tests.contract.golden import DIRECTORY, examples, file_name, golden, path_of, text

DIRECTORY.mkdir(exist_ok=True)
for stale in DIRECTORY.glob("*.json"):
    stale.unlink()
for example in examples():
    path_of(file_name(example)).write_bytes(text(golden(example)))
