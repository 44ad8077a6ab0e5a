"""What an account holds and used: grant, credit, debit, balance, usage, statement."""

import sys
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from solaris_cli.context import MONEY, TOKENS, WHEN, Context, When, json_option, pass_context
from solaris_cli.output import dollars, number, print_fields, print_json, print_rows
from solaris_meter.amounts import Money
from solaris_meter.ledger import accounts, audits, credits, entries, renewals, reports
from solaris_meter.ledger.credits import Applied
from solaris_meter.periods import to_iso

# So that an amount of -5 is refused as an amount, and not as an option nobody knows.
_AMOUNT_LIKE_OPTION = {"ignore_unknown_options": True}
_AT_ONCE = 100
_EVENT = {
    "at": "at",
    "user": "user",
    "model": "model",
    "input_tokens": "input",
    "output_tokens": "output",
    "images": "images",
    "audio_seconds": "seconds",
    "billed_tokens": "billed",
    "cost_usd": "cost usd",
    "basis": "basis",
    "interrupted": "cut off",
}
_SUM = {
    "calls": "calls",
    "input_tokens": "input",
    "cached_input_tokens": "cached",
    "output_tokens": "output",
    "images": "images",
    "audio_seconds": "seconds",
    "billed_tokens": "billed",
    "cost_usd": "cost usd",
    "unpriced_calls": "unpriced",
    "reported_percent": "reported %",
}
_RARE = {"cached_input_tokens", "images", "audio_seconds", "unpriced_calls"}
_ACCURACY = {
    "model": "model",
    "tokens": "tokens",
    "calls": "calls",
    "reported_tokens": "reported",
    "counted_tokens": "counted",
    "error_percent": "error %",
    "mean_error_percent": "mean %",
    "within_percent": "within 1 %",
}
"""The columns that tables show of each report, with their heads: short, so that a terminal holds them."""
_REFERENCE = "Idempotency key, such as a payment's id: the same one twice changes nothing the second time."


@click.command(context_settings=_AMOUNT_LIKE_OPTION)
@click.argument("user")
@click.argument("amount", type=TOKENS)
@click.option("--expires", type=WHEN, help="When the tokens are worth nothing any more: a date, or 30d from now.")
@click.option("--note", help="Why, for the statement.")
@click.option("--reference", metavar="KEY", help=_REFERENCE)
@json_option
@pass_context
def grant(
    context: Context,
    user: str,
    amount: int,
    expires: When | None,
    note: str | None,
    reference: str | None,
    as_json: bool,
) -> None:
    """Give USER tokens (a bonus).

    \b
    solaris-cli grant maria@example.com 250K --expires 30d --note "sorry for the outage"
    """
    now_ms = context.now_ms()
    with context.writing() as tx:
        name = accounts.find(tx, user).user
        applied = credits.give(
            tx,
            name,
            "bonus",
            amount,
            now_ms,
            expires_at_ms=expires.ms(context, now_ms) if expires else None,
            note=note,
            reference=reference,
        )
    _print_applied(applied, as_json)


@click.command(context_settings=_AMOUNT_LIKE_OPTION)
@click.argument("user")
@click.argument("amount", type=TOKENS)
@click.option("--paid", type=MONEY, help="What was paid: 49.90, or USD 10.")
@click.option("--expires", type=WHEN, help="When the tokens are worth nothing any more.  [default: never]")
@click.option("--note", help="Anything to remember, for the statement.")
@click.option("--reference", metavar="KEY", help=_REFERENCE)
@json_option
@pass_context
def credit(
    context: Context,
    user: str,
    amount: int,
    paid: Money | None,
    expires: When | None,
    note: str | None,
    reference: str | None,
    as_json: bool,
) -> None:
    """Add tokens that USER bought.

    \b
    solaris-cli credit joao 1M --paid 49.90 --reference pix-2026-0173
    """
    now_ms = context.now_ms()
    with context.writing() as tx:
        name = accounts.find(tx, user).user
        applied = credits.give(
            tx,
            name,
            "credit",
            amount,
            now_ms,
            expires_at_ms=expires.ms(context, now_ms) if expires else None,
            paid=paid,
            note=note or (f"paid {paid}" if paid else None),
            reference=reference,
            channels=context.settings.alerts.parsed_channels,
        )
    _print_applied(applied, as_json)


@click.command(context_settings=_AMOUNT_LIKE_OPTION)
@click.argument("user")
@click.argument("amount", type=TOKENS)
@click.option("--note", required=True, help="Why, for the statement.")
@click.option("--reference", metavar="KEY", help=_REFERENCE)
@json_option
@pass_context
def debit(context: Context, user: str, amount: int, note: str, reference: str | None, as_json: bool) -> None:
    """Take tokens back from USER, as a correction. More than there is becomes debt."""
    with context.writing() as tx:
        name = accounts.find(tx, user).user
        applied = credits.take(tx, name, amount, context.now_ms(), note=note, reference=reference)
    _print_applied(applied, as_json)


@click.command()
@click.argument("user", required=False)
@json_option
@pass_context
def balance(context: Context, user: str | None, as_json: bool) -> None:
    """Show what USER has left, or what everybody has."""
    with context.reading() as tx:
        meant = accounts.find(tx, user).user if user is not None else None
    _bring_up_to_date(context, meant)
    with context.reading() as tx:
        found = [accounts.get(tx, meant)] if meant is not None else accounts.all_accounts(tx)
        shown = [reports.balance(tx, account) for account in found]
    if as_json:
        print_json(shown[0] if user else shown)
    elif user:
        _print_balance(shown[0])
    else:
        columns = ("user", "email", "plan", "status", "limit", "used", "reserved", "available", "percent_used")
        print_rows(shown, columns, empty="no accounts yet")


@click.command()
@click.argument("user", required=False)
@click.option("--since", type=WHEN, help="From this moment on: a date, a time, or 7d for the last seven days.")
@click.option("--until", type=WHEN, help="Before this moment, likewise.")
@click.option(
    "--by",
    type=click.Choice(["user", "model", "day", "conversation"]),
    default="model",
    show_default=True,
    help="What to add up; days are those of UTC.",
)
@click.option("--events", is_flag=True, help="Every call instead of sums.")
@click.option("--accuracy", is_flag=True, help="How far counts are from what providers reported, per model.")
@json_option
@pass_context
def usage(
    context: Context,
    user: str | None,
    since: When | None,
    until: When | None,
    by: reports.Grouping,
    events: bool,
    accuracy: bool,
    as_json: bool,
) -> None:
    """Show what was used, by USER or by everybody.

    \b
    solaris-cli usage --by model --since 7d
    """
    if accuracy and (events or click.get_current_context().get_parameter_source("by") is not ParameterSource.DEFAULT):
        raise click.UsageError("--accuracy is per model: leave out --by and --events")
    now_ms = context.now_ms()
    with context.reading() as tx:
        account_id = accounts.find(tx, user).id if user is not None else None
        since_ms, until_ms = (moment.ms(context, now_ms, back=True) if moment else None for moment in (since, until))
        if accuracy:
            compared = audits.accuracy(tx, since_ms, until_ms, account_id)
            print_json(compared) if as_json else _print_accuracy(compared)
            return
        if events:
            rows = reports.usage_events(tx, account_id, since_ms, until_ms)
        else:
            rows = reports.usage(tx, by, account_id, since_ms, until_ms)
    if as_json:
        print_json(rows)
    else:
        _print_usage(rows, _EVENT if events else {by: by} | _SUM)


@click.command()
@click.argument("user")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many entries.")
@json_option
@pass_context
def statement(context: Context, user: str, last: int, as_json: bool) -> None:
    """Show the entries that made USER's balance, oldest first."""
    with context.reading() as tx:
        lines = entries.of_account(tx, accounts.find(tx, user), last)
    rows = [reports.entry(line) for line in lines]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("at", "kind", "amount", "balance_after", "reference", "note"), empty="no entries yet")


def _bring_up_to_date(context: Context, user: str | None) -> None:
    """Issue the periods that have begun, as a call would: what is shown is what there is.

    A few accounts at a time: while this writes, calls wait.
    """
    now_ms = context.now_ms()
    with context.reading() as tx:
        due = [name for name in accounts.due(tx, now_ms) if user in {None, name}]
    with click.progressbar(
        [due[start : start + _AT_ONCE] for start in range(0, len(due), _AT_ONCE)],
        label="beginning new periods",
        file=sys.stderr,
        hidden=len(due) <= _AT_ONCE,
    ) as parts:
        for part in parts:
            with context.writing() as tx:
                for name in part:
                    renewals.touch(tx, name, now_ms)


def _print_usage(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    """Calls or their sums, without the columns of `_RARE` in which nothing stands."""
    shown = {name: head for name, head in columns.items() if name not in _RARE or any(row[name] for row in rows)}
    print_rows([row | {"cost_usd": dollars(row["cost_usd"])} for row in rows], shown, empty="nothing was used")


def _print_accuracy(compared: dict[str, Any]) -> None:
    rows = [
        {"model": model["model"], "tokens": kind} | model[kind]
        for model in ([*compared["models"], {"model": "total"} | compared["total"]] if compared["models"] else ())
        for kind in ("input", "output")
    ]
    print_rows(rows, _ACCURACY, empty="no call was counted beside its report; see metering.audit_sample")


def _print_applied(applied: Applied, as_json: bool) -> None:
    entry, standing = applied.entry, applied.standing
    if as_json:
        print_json(
            {
                "user": standing.user,
                "kind": entry.kind,
                "amount": entry.amount,
                "balance": standing.balance,
                "available": standing.available,
                "reference": entry.reference,
                "repeated": applied.repeated,
            }
        )
    elif applied.repeated:
        click.echo(
            f"reference {entry.reference!r} was used for this at {to_iso(entry.at_ms)} already: nothing was changed. "
            f"{standing.user} has {number(standing.balance)} tokens."
        )
    else:
        click.echo(f"{entry.kind} {entry.amount:+,} → {standing.user} has {number(standing.balance)} tokens")


def _print_balance(shown: dict[str, Any]) -> None:
    period = shown["period"]
    fields = {name: shown[name] for name in ("user", "email", "plan", "status")}
    fields["period"] = f"{period['start']} to {period['end'] or 'no end'}"
    fields |= {name: shown[name] for name in ("limit", "used", "reserved", "balance", "available")}
    fields["percent_used"] = f"{shown['percent_used']} %"
    print_fields(fields)
    for alert in shown["alerts"]:
        click.echo(f"crossed {alert['threshold']} % of the limit at {alert['at']}")
    if shown["grants"]:
        click.echo()
        print_rows(shown["grants"], ("kind", "remaining", "expires_at"), empty="")
