"""The examples that the published contract has, as the package ships them: the golden envelopes.

`python -m tests.contract.examples` writes them.
"""

from pathlib import Path

import orjson

from tests.contract.golden import DIRECTORY

SHIPPED = Path(__file__).parents[2] / "ingest" / "contract" / "examples.ndjson"


def lines() -> bytes:
    """One envelope a line, sorted by golden file."""
    golden = [orjson.loads(path.read_bytes()) for path in sorted(DIRECTORY.glob("*.json"))]
    return b"".join(
        orjson.dumps(example["record"]["value"], option=orjson.OPT_APPEND_NEWLINE)
        for example in golden
    )


if __name__ == "__main__":
    SHIPPED.write_bytes(lines())
