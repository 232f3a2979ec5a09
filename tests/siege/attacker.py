"""`python -m tests.siege.attacker`: one attack in a process of its own, which says what it cost.

The attacker's machine is not ours: this process gives way to all others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
import sys
from pathlib import Path
from typing import Final

import click
import orjson

from tests.siege.attacks import ATTACKS
from tests.siege.enemy import Cost, Enemy

_NICENESS: Final = 10
_SLACK_S: Final = 30.0


@click.command()
@click.argument("name", type=click.Choice(sorted(ATTACKS)))
@click.argument("port", type=int)
@click.argument("seconds", type=float)
@click.argument("ammunition", type=click.Path(path_type=Path))
def main(name: str, port: int, seconds: float, ammunition: Path) -> None:
    """Attack 127.0.0.1:PORT, and print the cost as JSON."""
    os.nice(_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cost = asyncio.run(_attack(name, Enemy(port=port, seconds=seconds, ammunition=ammunition)))
    sys.stdout.buffer.write(orjson.dumps(dataclasses.asdict(cost)))


async def _attack(name: str, enemy: Enemy) -> Cost:
    async with asyncio.timeout(enemy.seconds + _SLACK_S):
        await ATTACKS[name](enemy)
    return enemy.cost


if __name__ == "__main__":
    main()
