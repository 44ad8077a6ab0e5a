"""Users: list, show, add, set-plan, block, unblock, rename, export, erase."""

from typing import Any

import click

from solaris_cli import alerts
from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_fields, print_json, print_rows
from solaris_meter.ledger import accounts, entries, outbox, plans, renewals, reports
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.models import Status
from solaris_meter.periods import to_iso


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def users(ctx: click.Context, as_json: bool) -> None:
    """Who has an account."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(users_list, as_json=as_json)
    elif as_json:
        raise click.UsageError("write --json after the command")


@users.command("list")
@json_option
@pass_context
def users_list(context: Context, as_json: bool) -> None:
    """Every account."""
    with context.reading() as tx:
        rows = [_as_dict(account) for account in accounts.all_accounts(tx)]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("user", "email", "plan", "status", "created_at"), empty="no accounts yet")


@users.command("show")
@click.argument("user")
@json_option
@pass_context
def users_show(context: Context, user: str, as_json: bool) -> None:
    """One account."""
    with context.reading() as tx:
        shown = _as_dict(accounts.find(tx, user))
    print_json(shown) if as_json else print_fields(shown)


@users.command("add")
@click.argument("user")
@click.option("--email", help="For people; LibreChat's headers keep it up to date.")
@click.option("--plan", help="The plan to begin with.  [default: accounts.default_plan]")
@json_option
@pass_context
def users_add(context: Context, user: str, email: str | None, plan: str | None, as_json: bool) -> None:
    """Open an account for USER, the id that LibreChat sends. (A first call opens one by itself.)"""
    now_ms = context.now_ms()
    usual = context.new_account
    with context.writing(create=True) as tx:
        new = NewAccount(plan or usual.plan, usual.timezone)
        account = renewals.open_account(tx, user, new, now_ms, email)
    shown = _as_dict(account) | {"balance": account.balance}
    if as_json:
        print_json(shown)
    else:
        click.echo(f"{user} has an account on plan {account.plan} with {account.balance:,} tokens")


@users.command("set-plan")
@click.argument("user")
@click.argument("plan")
@json_option
@pass_context
def users_set_plan(context: Context, user: str, plan: str, as_json: bool) -> None:
    """Put USER on another plan, at once.

    The new plan's allowance is given less what this period's allowance lost already; bought tokens stay.
    """
    now_ms = context.now_ms()
    with context.writing() as tx:
        account = renewals.touch(tx, accounts.find(tx, user).user, now_ms)
        account = renewals.change_plan(tx, account, plans.get(tx, plan, usable=True), now_ms)
    if as_json:
        print_json(_as_dict(account) | {"balance": account.balance})
    else:
        click.echo(f"{account.user} is on plan {plan} with {account.balance:,} tokens")


@users.command("block")
@click.argument("user")
@json_option
@pass_context
def users_block(context: Context, user: str, as_json: bool) -> None:
    """Refuse every call of USER; the balance stays."""
    _set_status(context, user, "blocked", as_json)


@users.command("unblock")
@click.argument("user")
@json_option
@pass_context
def users_unblock(context: Context, user: str, as_json: bool) -> None:
    """Let USER call again."""
    _set_status(context, user, "active", as_json)


@users.command("rename")
@click.argument("user")
@click.argument("new_id")
@json_option
@pass_context
def users_rename(context: Context, user: str, new_id: str, as_json: bool) -> None:
    """Give USER's account another id; its history goes with it."""
    with context.writing() as tx:
        account = accounts.find(tx, user)
        accounts.rename(tx, account, new_id)
    if as_json:
        print_json({"user": new_id, "was": account.user})
    else:
        click.echo(f"{account.user} is {new_id} now")


@users.command("export")
@click.argument("user")
@pass_context
def users_export(context: Context, user: str) -> None:
    """Print everything that is kept about USER, as JSON."""
    with context.reading() as tx:
        account = accounts.find(tx, user)
        exported = {
            "account": _as_dict(account),
            "balance": reports.balance(tx, account),
            "entries": [reports.entry(line) for line in entries.of_account(tx, account)],
            "usage": reports.usage_events(tx, account.id),
            "alerts": [alerts.as_dict(message) for message in outbox.messages(tx, account_id=account.id)],
        }
    print_json(exported)


@users.command("erase")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_context
def users_erase(context: Context, user: str, yes: bool, as_json: bool) -> None:
    """Forget who USER was: id, e-mail and conversations go, the numbers stay, the account is blocked."""
    with context.reading() as tx:
        account = accounts.find(tx, user)
    if not yes:
        # On stderr: stdout is what the command prints.
        whose = f"{account.user} ({account.email})" if account.email else account.user
        click.confirm(f"Forget who {whose} was? This cannot be undone.", abort=True, err=True)
    with context.writing() as tx:
        account = accounts.get(tx, account.user)
        anonymous = accounts.erase(tx, account)
    if as_json:
        print_json({"user": anonymous})
    else:
        click.echo(f"erased; the numbers stay under {anonymous}")


def _set_status(context: Context, user: str, status: Status, as_json: bool) -> None:
    with context.writing() as tx:
        account = accounts.find(tx, user)
        if status == "blocked":
            accounts.block(tx, account, context.now_ms(), context.settings.alerts.parsed_channels)
        else:
            accounts.set_status(tx, account, status)
    if as_json:
        print_json({"user": account.user, "status": status})
    else:
        click.echo(f"{account.user} is {status}")


def _as_dict(account: Account) -> dict[str, Any]:
    return {
        "user": account.user,
        "email": account.email,
        "plan": account.plan,
        "status": account.status,
        "timezone": account.timezone,
        "created_at": to_iso(account.created_at_ms),
    }
