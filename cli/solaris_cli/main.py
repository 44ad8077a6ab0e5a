"""`solaris-cli`: one group, one module per noun behind it."""

import io
import sys

import click

from solaris_cli import alerts, balances, ca, database, ledger, messages, plans, rates, sidecar, users
from solaris_cli.context import Context
from solaris_cli.doctor.command import doctor
from solaris_meter import __version__
from solaris_meter.errors import SolarisError


class _Group(click.Group):
    """Turns the program's own errors into one line on stderr and exit 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SolarisError as error:
            raise click.ClickException(str(error)) from error
        except UnicodeEncodeError as error:
            # An argument that is not text in the terminal's encoding; SQLite takes text only.
            raise click.ClickException(f"{error.object!a} is not valid UTF-8; check the terminal's encoding") from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--config", metavar="FILE", help="Settings file.  [default: $SOLARIS_CONFIG, or ./solaris.toml]")
@click.option("--database", metavar="URL", help="The ledger, instead of the one in the settings.")
@click.version_option(__version__, prog_name="solaris-cli")
@click.pass_context
def main(ctx: click.Context, config: str | None, database: str | None) -> None:
    """Per-user token balances for an unmodified LibreChat.

    Amounts read 250K, 1.5M or 1_000_000. USER is an id, an e-mail, or a unique prefix of either. Times are ISO 8601.
    """
    # What a terminal cannot show must not fail a command that has changed the ledger already.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    ctx.obj = Context(config, database)


for command in (
    sidecar.run,
    sidecar.demo,
    doctor,
    balances.grant,
    balances.credit,
    balances.debit,
    balances.balance,
    balances.usage,
    balances.statement,
    plans.plans,
    rates.rates,
    users.users,
    alerts.alerts,
    messages.messages,
    ledger.ledger,
    ca.ca,
    database.db,
):
    main.add_command(command)
