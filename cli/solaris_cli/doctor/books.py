"""The ledger: what is in it, where it lies, the clock and the time zones."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from solaris_cli import alerts
from solaris_cli.context import Context
from solaris_cli.doctor.finding import Finding, fault, ok, warning
from solaris_cli.doctor.host import Host
from solaris_meter.errors import SolarisError
from solaris_meter.ledger import accounts, check, outbox, plans, reports
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.periods import to_iso

EARLIEST_MS = 1_750_000_000_000
"""June 2025: a clock before this program was written is wrong."""
MAX_SKEW_MS = 60_000
_LOST = {"tmpfs": "the memory", "ramfs": "the memory", "overlay": "the container's own layer"}
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "afs", "virtiofs")
_LEAST_FREE = 500 << 20


def examine(context: Context, host: Host) -> Iterator[Finding]:
    """Everything that needs the ledger, and where it lies."""
    yield from _place(context, host)
    yield from _ledger(context)
    yield from _clock(context, host)
    yield from _channels(context)


def _place(context: Context, host: Host) -> Iterator[Finding]:
    try:
        engine = context.open_engine()
    except SolarisError:
        return  # `_ledger` says so
    if not isinstance(engine, SqliteEngine):
        return
    wrong = [*_durability(engine.path.absolute(), host), *_unsettled(engine)]
    yield from wrong
    if not wrong:
        yield ok("ledger.database", f"{engine.path.absolute()} is on a disk that stays")


def _durability(path: Path, host: Host) -> Iterator[Finding]:
    real = path.resolve()
    folder = real.parent
    point, kind = host.file_system(folder)
    subject = "ledger.database"
    volume = 'put it on a disk or a named volume: database = "sqlite:////data/solaris.db", with a volume on /data'
    temporary = next((place for place in host.temporary if folder.is_relative_to(place)), None)
    if temporary is not None:
        yield fault(subject, f"{path} is in {temporary}, which is emptied: the ledger would be lost", volume)
    elif kind in _LOST:
        yield fault(subject, f"{path} is in {_LOST[kind]} ({kind} on {point}): it is lost with it", volume)
    elif kind.startswith(_REMOTE):
        yield fault(
            subject,
            f"{path} is on a network file system ({kind} on {point}), on which SQLite's WAL is not safe",
            'put it on a local disk, or use PostgreSQL: database = "postgresql://…"',
        )
    if not folder.is_dir():
        return  # `_ledger` says so
    if not os.access(folder, os.W_OK) or (real.exists() and not os.access(real, os.W_OK)):
        yield fault(
            subject, f"{path} or its folder cannot be written by this user", f"chown it, or run as its owner: {folder}"
        )
    free = shutil.disk_usage(folder).free
    needed = max(_LEAST_FREE, 2 * real.stat().st_size if real.exists() else 0)
    if free < needed:
        yield warning(
            subject,
            f"the disk of {path} has {free >> 20:,} MiB left: an upgrade needs a copy of the ledger, and a full disk "
            "stops every call",
            "make room, or remove old backups beside it (…-before-…)",
        )


def _unsettled(engine: SqliteEngine) -> Iterator[Finding]:
    journal = engine.journal
    if journal.exists() and journal.stat().st_size:
        yield warning(
            "unsettled calls",
            f"{journal} holds calls that the ledger could not take yet",
            "start the sidecar, which charges them; if it is running, its log says what the ledger lacks",
        )
    refused = journal.with_suffix(".refused.jsonl")
    if refused.exists() and refused.stat().st_size:
        yield warning(
            "unsettled calls",
            f"{refused} holds calls that could not be charged at all",
            "charge them by hand (solaris-cli debit), then remove the file",
        )


def _ledger(context: Context) -> Iterator[Finding]:
    plan = context.settings.accounts.default_plan
    try:
        with context.reading() as tx:
            report = check.run(tx)
            known = {known.name: known for known in plans.all_plans(tx)}
    except SolarisError as error:
        yield fault("ledger", str(error), "nobody can call until this is mended")
        return
    if report.ok:
        sums = f"{report.accounts:,} accounts, {report.entries:,} entries, every sum is right"
        yield ok("ledger", f"{context.shown_database}: {sums}")
    else:
        yield fault("ledger", f"{len(report.problems)} sums are wrong", "solaris-cli ledger check")
    if plan not in known or known[plan].retired_at_ms is not None:
        state = "retired" if plan in known else "missing"
        yield fault(
            "accounts.default_plan",
            f"{plan!r} is {state}: nobody new can call",
            f"solaris-cli plans set {plan} --tokens 1M --period month",
        )
    else:
        yield ok("accounts.default_plan", f"{plan}: {known[plan].tokens:,} tokens per {known[plan].period}")


def _clock(context: Context, host: Host) -> Iterator[Finding]:
    zone = context.settings.accounts.timezone
    now_ms = context.now_ms()
    latest_ms, zones = None, Counter[str]()
    try:
        with context.reading() as tx:
            latest_ms = reports.latest_ms(tx)
            zones = Counter(account.timezone for account in accounts.all_accounts(tx))
    except SolarisError:
        pass  # `_ledger` says so
    if now_ms < EARLIEST_MS:
        yield fault("clock", "is in the past", "set the machine's clock: periods are cut by it")
    elif latest_ms is not None and latest_ms > now_ms + MAX_SKEW_MS:
        yield fault(
            "clock",
            f"it is {to_iso(now_ms)}, and the ledger's latest entry is of {to_iso(latest_ms)}: time has run backwards",
            "set the machine's clock (timedatectl set-ntp true): periods and expiries are cut by it",
        )
    else:
        yield ok("clock", f"periods in {zone}")
    others = {name: count for name, count in zones.items() if name != zone}
    if others:
        named = ", ".join(f"{count} in {name}" for name, count in sorted(others.items()))
        yield warning(
            "accounts.timezone",
            f"is {zone}, but accounts opened before keep their own: {named}",
            "their periods begin at another midnight; set it back, or leave it so on purpose",
        )
    machine = host.environment.get("TZ", "").lstrip(":")
    if machine and machine not in {zone, "UTC", "Etc/UTC", "UTC0"}:
        yield warning(
            "accounts.timezone",
            f"is {zone}, and this machine's TZ is {machine}: logs and periods have different midnights",
            f"set TZ={zone} or TZ=UTC for the sidecar, or accounts.timezone",
        )


def _channels(context: Context) -> Iterator[Finding]:
    channels = context.settings.alerts.parsed_channels
    for found in alerts.ask_channels(context, "check") if channels else ():
        if found["ok"]:
            yield ok("alerts.channels", found["channel"])
        else:
            text = f"{found['channel']}: {found['error']}"
            yield fault("alerts.channels", text, "correct it: the sidecar does not start until then")
    try:
        with context.reading() as tx:
            known = {channel.id for channel in channels}
            dead = len(outbox.messages(tx, "dead"))
            lost = sum(message.channel_id not in known for message in outbox.messages(tx, "pending"))
    except SolarisError:
        return  # `_ledger` says so
    if dead:
        remedy = "solaris-cli alerts list --state dead; solaris-cli alerts resend --dead"
        yield warning("alerts", f"{dead} could not be sent", remedy)
    if lost:
        text = f"{lost} wait for channels that are not in alerts.channels any more"
        yield warning("alerts", text, "solaris-cli alerts list --state pending; put the channels back")
