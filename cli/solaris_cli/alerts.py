"""Alerts: what is to leave, what left and what did not; sending again; a test of the channels."""

import json
import os
import subprocess
import sys
from typing import Any

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json, print_rows
from solaris_meter.errors import SettingsError
from solaris_meter.ledger import outbox
from solaris_meter.ledger.outbox import Message, State
from solaris_meter.periods import to_iso

_TEST_S = 300
"""How long all channels together may take to answer a test."""


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def alerts(ctx: click.Context, as_json: bool) -> None:
    """Alerts by e-mail and webhook."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(alerts_list, state=None, as_json=as_json)
    elif as_json:
        raise click.UsageError("write --json after the command")


@alerts.command("list")
@click.option("--state", type=click.Choice(["pending", "sent", "dead"]), help="Only those; dead: tried too often.")
@json_option
@pass_context
def alerts_list(context: Context, state: State | None, as_json: bool) -> None:
    """Every alert and channel, oldest first: did it leave, and if not, why and when it is tried again."""
    with context.reading() as tx:
        rows = [as_dict(message) for message in outbox.messages(tx, state)]
    if as_json:
        print_json(rows)
        return
    columns = ("id", "at", "kind", "user", "to", "channel", "state", "tries", "next_try_at", "last_error")
    # An answer of a mail server may have several lines.
    cells = [row | {"last_error": row["last_error"] and " ".join(row["last_error"].split())} for row in rows]
    print_rows(cells, columns, empty="no alerts")


@alerts.command("resend")
@click.argument("id", required=False, type=int)
@click.option("--dead", is_flag=True, help="Every alert that was tried too often.")
@json_option
@pass_context
def alerts_resend(context: Context, id: int | None, dead: bool, as_json: bool) -> None:  # noqa: A002
    """Have the alert ID sent again, whatever became of it. The running sidecar does so within seconds."""
    if (id is not None) == dead:
        raise click.UsageError("name one alert by its ID ('solaris-cli alerts list'), or --dead")
    channels = [channel.id for channel in context.settings.alerts.parsed_channels]
    now_ms = context.now_ms()
    with context.writing() as tx:
        resent = outbox.resend_dead(tx, channels, now_ms) if id is None else [outbox.resend(tx, id, channels, now_ms)]
        left = len(outbox.messages(tx, "dead")) if dead else 0
    if as_json:
        print_json([as_dict(message) for message in resent])
        return
    click.echo(f"{len(resent)} alert{'' if len(resent) == 1 else 's'} will be sent again")
    if left:
        click.echo(f"{left} dead stay: their channels are not in alerts.channels any more")


@alerts.command("test")
@click.option("--email", metavar="ADDRESS", help="Whom to write to by the channels that are for users.")
@json_option
@pass_context
def alerts_test(context: Context, email: str | None, as_json: bool) -> None:
    """Send one message to every channel now, and say what happened. Exit 1 where one failed."""
    results = ask_channels(context, "test", *([email] if email else [])) if context.settings.alerts.channels else []
    if as_json:
        print_json(results)
    else:
        words = {True: "sent", False: "failed", None: "left out"}
        rows = [row | {"result": words[row["ok"]]} for row in results]
        print_rows(
            rows,
            {"channel": "channel", "to": "to", "result": "result", "error": "why"},
            empty="alerts.channels is empty: nobody is told of anything",
        )
    if any(row["ok"] is False for row in results):
        sys.exit(1)


def ask_channels(context: Context, *arguments: str) -> list[dict[str, Any]]:
    """What `python -m solaris_meter.notify` says about each channel: `channel`, `to`, `ok`, `error`.

    A program of its own: no other command has to load what speaks to mail servers and chats.
    """
    environment = dict(os.environ)
    if context.config:
        environment["SOLARIS_CONFIG"] = str(context.config.absolute())
    done = subprocess.run(  # noqa: S603  (ourselves)
        [sys.executable, "-P", "-m", "solaris_meter.notify", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TEST_S,
        check=False,
    )
    if done.returncode != 0:
        raise SettingsError(done.stderr.strip() or f"the channels cannot be asked (exit {done.returncode})")
    return list(json.loads(done.stdout))


def as_dict(message: Message) -> dict[str, Any]:
    """A message as JSON; times as ISO 8601. `to` is null where it is for the operator."""
    return {
        "id": message.id,
        "at": to_iso(message.event.at_ms),
        "kind": message.event.kind,
        "threshold": message.event.threshold,
        "user": message.user,
        "to": message.recipient,
        "channel": message.channel,
        "state": message.state,
        "tries": message.tries,
        "next_try_at": to_iso(message.next_try_at_ms) if message.state == "pending" else None,
        "sent_at": to_iso(message.sent_at_ms) if message.sent_at_ms is not None else None,
        "last_error": message.last_error,
    }
