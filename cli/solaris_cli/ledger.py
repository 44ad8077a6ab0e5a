"""The ledger itself: check, export, holds, release."""

import json
import sys

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json, print_rows
from solaris_meter.errors import LedgerError
from solaris_meter.ledger import accounts, check, entries, reports, reservations


@click.group()
def ledger() -> None:
    """The ledger itself."""


@ledger.command("check")
@json_option
@pass_context
def ledger_check(context: Context, as_json: bool) -> None:
    """Recompute every balance from its entries; exit 1, naming each account that differs."""
    with context.reading() as tx:
        report = check.run(tx)
    if as_json:
        print_json(report.as_dict())
    elif report.ok:
        click.echo(f"ok: {report.accounts:,} accounts, {report.entries:,} entries")
    else:
        print_rows(report.problems, ("user", "what", "found", "expected"), empty="")
    if not report.ok:
        sys.exit(1)


@ledger.command("export")
@pass_context
def ledger_export(context: Context) -> None:
    """Print every entry, one JSON object a line, oldest first."""
    with context.reading() as tx:
        for user, line in entries.all_entries(tx):
            row = {"user": user} | reports.entry(line)
            click.echo(json.dumps(row, ensure_ascii=False))


@ledger.command("holds")
@json_option
@pass_context
def ledger_holds(context: Context, as_json: bool) -> None:
    """What running calls hold."""
    with context.reading() as tx:
        rows = reports.holds(tx)
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("id", "user", "model", "reserved", "created_at", "expires_at"), empty="nothing is held")


@ledger.command("release")
@click.argument("reservation_id")
@click.option("--force", is_flag=True, help="Also while its sidecar runs: the call will not be charged.")
@json_option
@pass_context
def ledger_release(context: Context, reservation_id: str, force: bool, as_json: bool) -> None:
    """Give back what a reservation holds, uncharged. The sidecar does this by itself; see 'ledger holds'."""
    engine = context.engine()
    with context.writing() as tx:
        owner = reservations.owner(tx, reservation_id)
        if owner is not None and not force and engine.is_alive(owner):
            raise LedgerError(
                f"the sidecar of {reservation_id!r} is running and will settle it; --force releases it uncharged"
            )
        standing = reservations.void(tx, reservation_id, context.now_ms())
        if standing is None:
            raise LedgerError(f"no pending reservation {reservation_id!r}; see 'solaris-cli ledger holds'")
        account = accounts.get(tx, standing.user)
    if as_json:
        print_json({"id": reservation_id, "user": account.user, "available": account.standing.available})
    else:
        click.echo(f"released; {account.user} has {account.standing.available:,} tokens available")
