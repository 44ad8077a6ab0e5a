"""Doctor: is everything as it must be, and if not, what to do."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import click

from solaris_cli import alerts
from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json
from solaris_meter.errors import SolarisError
from solaris_meter.ledger import check, outbox, plans
from solaris_meter.settings import without_effect

MIN_KEY_LENGTH = 16
EARLIEST_MS = 1_750_000_000_000
"""June 2025: a clock before this program was written is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `remedy` says what to do about a warning or a fault."""

    level: Literal["ok", "warning", "fault"]
    subject: str
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"level": self.level, "subject": self.subject, "text": self.text, "remedy": self.remedy}


@click.command()
@json_option
@pass_context
def doctor(context: Context, as_json: bool) -> None:
    """Check settings, database, plans and clock, and say what to fix. Exit 1 where something is broken."""
    findings = list(_examine(context))
    if as_json:
        print_json({"ok": not _faults(findings), "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.level:8} {finding.subject}: {finding.text}")
            if finding.remedy:
                click.echo(f"         → {finding.remedy}")
    if _faults(findings):
        sys.exit(1)


def _faults(findings: list[Finding]) -> bool:
    return any(finding.level == "fault" for finding in findings)


def _examine(context: Context) -> Iterator[Finding]:
    try:
        settings = context.settings
    except SolarisError as error:
        yield Finding("fault", "settings", str(error), "correct that line; nothing starts until then")
        return
    yield Finding("ok", "settings", str(context.config or "defaults (no solaris.toml)"))
    examinations: tuple[Callable[[Context], Iterator[Finding]], ...] = (
        _key,
        _effects,
        _purchase,
        _clock,
        _ledger,
        _channels,
    )
    for examine in examinations:
        yield from examine(context)
    yield Finding("ok", "routes", ", ".join(sorted(settings.all_routes)))


def _key(context: Context) -> Iterator[Finding]:
    key = context.settings.identity.key
    if not key:
        yield Finding(
            "warning",
            "identity.key",
            "is empty: whoever reaches the sidecar can call as anybody",
            "set it here, and the same in the headers of librechat.yaml",
        )
    elif len(key) < MIN_KEY_LENGTH or "openssl" in key:
        yield Finding("warning", "identity.key", "is short enough to be guessed", "openssl rand -hex 32")
    else:
        yield Finding("ok", "identity.key", "is set")


def _effects(context: Context) -> Iterator[Finding]:
    for name in without_effect(context.settings):
        yield Finding("warning", name, "is not built yet in this version", "it has no effect; remove it, or upgrade")


def _purchase(context: Context) -> Iterator[Finding]:
    purchase = context.settings.purchase
    if not purchase.email and not purchase.url:
        yield Finding(
            "warning",
            "purchase",
            "neither e-mail nor url: people who used up their tokens are not told where to buy",
            "set purchase.email or purchase.url",
        )


def _clock(context: Context) -> Iterator[Finding]:
    if context.now_ms() < EARLIEST_MS:
        yield Finding("fault", "clock", "is in the past", "set the machine's clock: periods are cut by it")
    else:
        yield Finding("ok", "clock", f"periods in {context.settings.accounts.timezone}")


def _ledger(context: Context) -> Iterator[Finding]:
    plan = context.settings.accounts.default_plan
    try:
        with context.reading() as tx:
            report = check.run(tx)
            known = {known.name: known for known in plans.all_plans(tx)}
    except SolarisError as error:
        yield Finding("fault", "ledger", str(error), "nobody can call until this is mended")
        return
    if report.ok:
        sums = f"{report.accounts:,} accounts, {report.entries:,} entries, every sum is right"
        yield Finding("ok", "ledger", f"{context.shown_database}: {sums}")
    else:
        yield Finding("fault", "ledger", f"{len(report.problems)} sums are wrong", "solaris-cli ledger check")
    if plan not in known or known[plan].retired_at_ms is not None:
        state = "retired" if plan in known else "missing"
        yield Finding(
            "fault",
            "accounts.default_plan",
            f"{plan!r} is {state}: nobody new can call",
            f"solaris-cli plans set {plan} --tokens 1M --period month",
        )
    else:
        yield Finding("ok", "accounts.default_plan", f"{plan}: {known[plan].tokens:,} tokens per {known[plan].period}")


def _channels(context: Context) -> Iterator[Finding]:
    channels = context.settings.alerts.parsed_channels
    for found in alerts.ask_channels(context, "check") if channels else ():
        if found["ok"]:
            yield Finding("ok", "alerts.channels", found["channel"])
        else:
            text = f"{found['channel']}: {found['error']}"
            yield Finding("fault", "alerts.channels", text, "correct it: the sidecar does not start until then")
    try:
        with context.reading() as tx:
            known = {channel.id for channel in channels}
            dead = len(outbox.messages(tx, "dead"))
            lost = sum(message.channel_id not in known for message in outbox.messages(tx, "pending"))
    except SolarisError:
        return  # `_ledger` says so
    if dead:
        remedy = "solaris-cli alerts list --state dead; solaris-cli alerts resend --dead"
        yield Finding("warning", "alerts", f"{dead} could not be sent", remedy)
    if lost:
        text = f"{lost} wait for channels that are not in alerts.channels any more"
        yield Finding("warning", "alerts", text, "solaris-cli alerts list --state pending; put the channels back")
