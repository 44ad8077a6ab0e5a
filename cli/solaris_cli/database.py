"""The database: migrate, path."""

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json
from solaris_meter.ledger.database import open_engine


@click.group()
def db() -> None:
    """The database behind the ledger."""


@db.command("migrate")
@json_option
@pass_context
def db_migrate(context: Context, as_json: bool) -> None:
    """Make the database, or bring it up to date. The sidecar does this by itself when it starts."""
    ran = open_engine(context.database).migrate()
    if as_json:
        print_json({"database": context.shown_database, "migrations": ran})
    else:
        click.echo(f"{context.shown_database}: {', '.join(ran) if ran else 'up to date'}")


@db.command("path")
@json_option
@pass_context
def db_path(context: Context, as_json: bool) -> None:
    """Print where the ledger is; of a URL all but its password."""
    print_json({"database": context.shown_database}) if as_json else click.echo(context.shown_database)
