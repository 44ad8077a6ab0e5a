"""Plans: list, show, set, retire, apply."""

import tomllib
from pathlib import Path
from typing import Any

import click

from solaris_cli.context import MONEY, TOKENS_OR_ZERO, Context, json_option, pass_context
from solaris_cli.output import print_fields, print_json, print_rows
from solaris_meter.amounts import Money, parse_money, parse_tokens
from solaris_meter.errors import AmountError, LedgerError
from solaris_meter.ledger import plans as ledger_plans
from solaris_meter.ledger.plans import Plan
from solaris_meter.periods import Anchor, PeriodKind, to_iso

_PERIODS: tuple[PeriodKind, ...] = ("day", "week", "month", "year", "none")
_ANCHORS: tuple[Anchor, ...] = ("calendar", "signup")
_KEYS = {"tokens", "period", "anchor", "rollover", "price"}


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plans(ctx: click.Context, as_json: bool) -> None:
    """What accounts get per period."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(plans_list, as_json=as_json)
    elif as_json:
        raise click.UsageError("write --json after the command")


@plans.command("list")
@json_option
@pass_context
def plans_list(context: Context, as_json: bool) -> None:
    """Every plan."""
    with context.reading() as tx:
        rows = [_as_dict(plan) for plan in ledger_plans.all_plans(tx)]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "tokens", "period", "anchor", "rollover", "price", "retired_at"), empty="no plans")


@plans.command("show")
@click.argument("name")
@json_option
@pass_context
def plans_show(context: Context, name: str, as_json: bool) -> None:
    """One plan."""
    with context.reading() as tx:
        shown = _as_dict(ledger_plans.get(tx, name))
    print_json(shown) if as_json else print_fields(shown)


@plans.command("set")
@click.argument("name")
@click.option("--tokens", type=TOKENS_OR_ZERO, required=True, help="Given per period; 0: prepaid, credits only.")
@click.option("--period", type=click.Choice(_PERIODS), required=True)
@click.option(
    "--anchor", type=click.Choice(_ANCHORS), default="calendar", show_default=True, help="What periods repeat."
)
@click.option("--rollover", type=TOKENS_OR_ZERO, default="0", help="How many unused tokens live one period longer.")
@click.option("--price", type=MONEY, help="Per period: 49.90, or USD 10.")
@json_option
@pass_context
def plans_set(
    context: Context,
    name: str,
    tokens: int,
    period: PeriodKind,
    anchor: Anchor,
    rollover: int,
    price: Money | None,
    as_json: bool,
) -> None:
    """Make a plan, or change one from each account's next period on.

    \b
    solaris-cli plans set pro --tokens 5M --period month --rollover 1M --price 149.90
    """
    plan = Plan(name, tokens, period, anchor, rollover, price)
    with context.writing(create=True) as tx:
        is_new = ledger_plans.put(tx, plan, context.now_ms())
    if as_json:
        print_json(_as_dict(plan) | {"new": is_new})
    else:
        later = "" if is_new else "; accounts on it get this from their next period on"
        click.echo(f"plan {name} {'made' if is_new else 'changed'}: {tokens:,} tokens, period {period}{later}")


@plans.command("retire")
@click.argument("name")
@json_option
@pass_context
def plans_retire(context: Context, name: str, as_json: bool) -> None:
    """Give a plan to nobody new; whoever is on it stays."""
    with context.writing() as tx:
        staying = ledger_plans.retire(tx, name, context.now_ms())
    if as_json:
        print_json({"name": name, "accounts": staying})
    else:
        click.echo(f"plan {name} retired; {staying:,} accounts stay on it")


@plans.command("apply")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_context
def plans_apply(context: Context, file: Path, as_json: bool) -> None:
    """Make or change every plan of a TOML FILE, or none where one is wrong.

    \b
    [pro]
    tokens = "5M"
    period = "month"
    rollover = "1M"
    price = "149.90"
    """
    wanted = _read(file)
    with context.writing(create=True) as tx:
        made = [ledger_plans.put(tx, plan, context.now_ms()) for plan in wanted]
    if as_json:
        print_json([_as_dict(plan) | {"new": is_new} for plan, is_new in zip(wanted, made, strict=True)])
    else:
        click.echo(f"{file}: {sum(made)} plans made, {len(made) - sum(made)} set again")


def _read(file: Path) -> list[Plan]:
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LedgerError(f"{file} is not valid TOML: {error}") from error
    return [_plan(file, name, table) for name, table in tables.items()]


def _plan(file: Path, name: str, table: Any) -> Plan:
    where = f"{file}: plan {name!r}"
    if not isinstance(table, dict) or not {"tokens", "period"} <= set(table) <= _KEYS:
        raise LedgerError(f"{where}: a plan is a table with tokens and period, and may have anchor, rollover and price")
    if table["period"] not in _PERIODS or table.get("anchor", "calendar") not in _ANCHORS:
        raise LedgerError(f"{where}: period is one of {', '.join(_PERIODS)}; anchor is calendar or signup")
    try:
        return Plan(
            name=name,
            tokens=_tokens(table["tokens"]),
            period=table["period"],
            anchor=table.get("anchor", "calendar"),
            rollover_max=_tokens(table.get("rollover", 0)),
            price=parse_money(str(table["price"])) if "price" in table else None,
        )
    except AmountError as error:
        raise AmountError(f"{where}: {error}") from error


def _tokens(value: Any) -> int:
    """A number with a point is refused: TOML has made 250 of 250.000 already."""
    if isinstance(value, float):
        raise AmountError(f'{value} is not a whole number of tokens: write 250_000 or "250K"')
    return parse_tokens(str(value), zero=True)


def _as_dict(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "tokens": plan.tokens,
        "period": plan.period,
        "anchor": plan.anchor,
        "rollover": plan.rollover_max,
        "price": str(plan.price) if plan.price else None,
        "retired_at": to_iso(plan.retired_at_ms) if plan.retired_at_ms is not None else None,
    }
