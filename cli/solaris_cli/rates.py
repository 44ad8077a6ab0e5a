"""Rates: list, set, remove."""

from typing import Any

import click

from solaris_cli.context import RATE, WHEN, Context, When, json_option, pass_context
from solaris_cli.output import print_json, print_rows
from solaris_meter.ledger import rates as ledger_rates
from solaris_meter.ledger import reports
from solaris_meter.ledger.rates import KINDS, ONE, READ_KINDS, Kind, Rates, Rule, format_rate
from solaris_meter.periods import to_iso

_DEFAULT = "default: 1 for input, output, image and second; cached input and cache write cost what input costs"


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def rates(ctx: click.Context, as_json: bool) -> None:
    """What models cost, in billed tokens."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(rates_list, unpriced=False, history=False, model=None, since=None, as_json=as_json)
    elif as_json:
        raise click.UsageError("write --json after the command")


@rates.command("list")
@click.option("--model", metavar="NAME", help="What one model costs, and why: gpt-4o, or openai/gpt-4o.")
@click.option("--history", is_flag=True, help="Every change there ever was.")
@click.option("--unpriced", is_flag=True, help="The models with calls whose cost in USD is not known.")
@click.option("--since", type=WHEN, help="With --history or --unpriced: from this moment on, or 7d.")
@json_option
@pass_context
def rates_list(
    context: Context, model: str | None, history: bool, unpriced: bool, since: When | None, as_json: bool
) -> None:
    """The rates in force.

    They are billed tokens per token, per picture and per second of sound. For each kind the most specific pattern
    that matches a model counts.
    """
    if (model is not None) + history + unpriced > 1:
        raise click.UsageError("--model, --history and --unpriced are three different lists: name one")
    if since and not (history or unpriced):
        raise click.UsageError("--since goes with --history or --unpriced")
    now_ms = context.now_ms()
    since_ms = since.ms(context, now_ms, back=True) if since else None
    with context.reading() as tx:
        if unpriced:
            _print_unpriced(reports.unpriced(tx, since_ms), as_json)
        elif history:
            _print_history(ledger_rates.history(tx, since_ms), as_json)
        elif model is not None:
            _print_model(model, ledger_rates.in_force(tx, now_ms), as_json)
        else:
            _print_rules(ledger_rates.in_force(tx, now_ms), as_json)


@rates.command("set")
@click.argument("pattern")
@click.option("--input", "input_rate", type=RATE, help="Per token read; cached ones cost as much unless set.")
@click.option("--cached-input", type=RATE, help="Per token read from a cache.")
@click.option("--cache-write", type=RATE, help="Per token written to a cache.")
@click.option("--output", type=RATE, help="Per token of the answer, reasoning included.")
@click.option("--image", type=RATE, help="Per picture, where pictures are paid by the piece.")
@click.option("--second", type=RATE, help="Per second of sound, where sound is paid by its length.")
@click.option("--note", help="Anything to remember.")
@json_option
@pass_context
def rates_set(
    context: Context,
    pattern: str,
    input_rate: int | None,
    cached_input: int | None,
    cache_write: int | None,
    output: int | None,
    image: int | None,
    second: int | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Say what the models of PATTERN cost.

    PATTERN is a model's name or a glob (*, ?), over the model as the caller writes it and over PROVIDER/MODEL. Rates
    are billed tokens per token, picture or second; 0 is free. What is not named stays as it is.

    \b
    solaris-cli rates set "openai/gpt-4o*" --input 15 --cached-input 7.5 --output 60
    """
    named = zip(KINDS, (input_rate, cached_input, cache_write, output, image, second), strict=True)
    micros = {kind: micro for kind, micro in named if micro is not None}
    if not micros:
        raise click.UsageError("name at least one rate: --input, --output, … ('rates remove' ends those of a pattern)")
    now_ms = context.now_ms()
    with context.writing(create=True) as tx:
        kept = ledger_rates.put(tx, pattern, micros, now_ms, note)
        rules = [rule for rule in ledger_rates.in_force(tx, now_ms) if rule.pattern == kept]
    if as_json:
        print_json(_by_pattern(rules)[0])
    else:
        shown = ", ".join(f"{_words(kind)} {format_rate(micro)}" for kind, micro in micros.items())
        click.echo(f"{kept}: {shown}; this applies to new calls only")


@rates.command("remove")
@click.argument("pattern")
@json_option
@pass_context
def rates_remove(context: Context, pattern: str, as_json: bool) -> None:
    """End the rates of PATTERN, for new calls."""
    with context.writing() as tx:
        name, kinds = ledger_rates.remove(tx, pattern, context.now_ms())
    if as_json:
        print_json({"pattern": name, "removed": kinds})
    else:
        click.echo(f"{name}: no {', '.join(map(_words, kinds))} rate any more; this applies to new calls only")


def _print_rules(rules: list[Rule], as_json: bool) -> None:
    rows = _by_pattern(rules)
    if as_json:
        default = {kind: None if kind in READ_KINDS else 1 for kind in KINDS}
        print_json({"rules": rows, "default": default})
        return
    cells = [row | {kind: _text(row[kind]) for kind in KINDS} for row in rows]
    print_rows(cells, ("pattern", *KINDS), empty="no rates are set")
    click.echo(_DEFAULT)


def _print_model(name: str, rules: list[Rule], as_json: bool) -> None:
    """A name with a slash is PROVIDER/MODEL: patterns over the model alone match it as well."""
    found = ledger_rates.best(rules, {name, name.partition("/")[2] or name})
    own = Rates.of({kind: rule.micro for kind, rule in found.items() if rule.micro is not None})
    micros: dict[Kind, int] = {kind: getattr(own, kind) for kind in KINDS}
    patterns = {kind: found[kind].pattern if kind in found else None for kind in KINDS}
    if as_json:
        priced = {kind: {"rate": _number(micros[kind]), "pattern": patterns[kind]} for kind in KINDS}
        print_json({"model": name, "rates": priced})
        return
    rows = [
        {"kind": _words(kind), "rate": format_rate(micros[kind]), "from": patterns[kind] or _fallback(kind)}
        for kind in KINDS
    ]
    print_rows(rows, ("kind", "rate", "from"), empty="")


def _print_history(lines: list[Rule], as_json: bool) -> None:
    rows = [
        {
            "at": to_iso(line.at_ms),
            "pattern": line.pattern,
            "kind": line.kind,
            "rate": None if line.micro is None else _number(line.micro),
            "note": line.note,
        }
        for line in lines
    ]
    if as_json:
        print_json(rows)
        return
    cells = [
        row | {"kind": _words(line.kind), "rate": "removed" if line.micro is None else format_rate(line.micro)}
        for row, line in zip(rows, lines, strict=True)
    ]
    print_rows(cells, ("at", "pattern", "kind", "rate", "note"), empty="no rates were ever set")


def _print_unpriced(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("provider", "model", "calls", "total_tokens"), empty="the cost of every call is known")


def _by_pattern(rules: list[Rule]) -> list[dict[str, Any]]:
    """One row for each pattern: its rates (None: not its own), when the newest of them was set, and with what note."""
    rows: dict[str, dict[str, Any]] = {}
    for rule in rules:  # oldest first
        assert rule.micro is not None
        row = rows.setdefault(rule.pattern, {"pattern": rule.pattern} | dict.fromkeys(KINDS))
        row |= {rule.kind: _number(rule.micro), "note": rule.note, "set_at": to_iso(rule.at_ms)}
    return list(rows.values())


def _number(micro: int) -> int | float:
    return micro // ONE if micro % ONE == 0 else micro / ONE


def _text(rate: int | float | None) -> str | None:
    return None if rate is None else format_rate(round(rate * ONE))


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _fallback(kind: Kind) -> str:
    return "as input" if kind in READ_KINDS else "default"
