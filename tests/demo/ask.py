"""`python -m tests.demo.ask SQL`: a question to the demo's tables, or to those of another file."""

from pathlib import Path

import click
import duckdb

from tests.demo.showing import asked

STORE = Path("build/demo/forebay.duckdb")


@click.command()
@click.argument("sql")
@click.option("--store", type=click.Path(exists=True, path_type=Path), default=STORE)
def main(sql: str, store: Path) -> None:
    """Answer one query on stdout."""
    try:
        click.echo("\n".join(asked(store, sql)))
    except duckdb.Error as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
