"""Writes the golden files: to change one is to change what subscribers see.

With `--new` only those that are not there yet: of types that have just got an example.
"""

import sys

from tests.contract.golden import DIRECTORY, examples, file_name, golden, path_of, text

wanted = {path_of(file_name(example)): example for example in examples()}
if sys.argv[1:] == ["--new"]:
    wanted = {path: example for path, example in wanted.items() if not path.exists()}
else:
    for stale in DIRECTORY.glob("*.json"):
        stale.unlink()
for path, example in wanted.items():
    path.write_bytes(text(golden(example)))
