"""The database: migrate, backup, restore, path."""

import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.output import print_json
from solaris_meter.errors import LedgerError
from solaris_meter.ledger import backup
from solaris_meter.ledger.check import Report
from solaris_meter.ledger.copies import Progress
from solaris_meter.ledger.database import SqliteEngine

_TELL_AFTER_S = 1.0


@click.group()
def db() -> None:
    """The database behind the ledger."""


@db.command("migrate")
@json_option
@pass_context
def db_migrate(context: Context, as_json: bool) -> None:
    """Make the database, or bring it up to date. The sidecar does this by itself when it starts.

    A ledger of an older version is copied first; the copy stays beside it until you remove it.
    """
    engine = context.open_engine()
    ran = engine.migrate()
    if as_json:
        backup_path = str(engine.copied_to) if engine.copied_to else None
        print_json({"database": context.shown_database, "migrations": ran, "backup": backup_path})
        return
    click.echo(f"{context.shown_database}: {', '.join(ran) if ran else 'up to date'}")
    if engine.copied_to:
        click.echo(f"as it was before: {engine.copied_to}")


@db.command("backup")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@pass_context
def db_backup(context: Context, file: Path | None, as_json: bool) -> None:
    """Copy the ledger to FILE while it is served, and check every sum of the copy.

    \b
    solaris-cli db backup
    solaris-cli db backup /mnt/nas/solaris-monday.db

    Without FILE: backups/ beside the ledger, named by the time; in a folder, likewise. Calls that are not in the ledger
    yet stand in a second file, FILE-unsettled.jsonl, where there are any: keep the two together.
    """
    engine = _engine(context, "backup", file, create=False)
    if file is None or file.is_dir():
        file = backup.default_target(engine, context.now_ms(), file)
    made = backup.backup(engine, file, None if as_json else _progress())
    if as_json:
        print_json(
            {
                "file": str(made.path),
                "bytes": made.size_bytes,
                "unsettled_file": str(made.journal) if made.journal else None,
                "unsettled": made.unsettled,
                "check": made.report.as_dict() if made.report else None,
            }
        )
        return
    click.echo(f"{made.path}: {_found(made.report)}")
    if made.journal:
        click.echo(f"{made.journal}: {made.unsettled:,} calls that are not in the ledger yet; it belongs to the backup")


@db.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Also where the ledger has entries that the backup does not have.")
@json_option
@pass_context
def db_restore(context: Context, file: Path, force: bool, as_json: bool) -> None:
    """Make a backup the ledger, after checking it. Stop the sidecar first.

    The ledger there is now is kept beside it, as …-before-restore-TIME.
    """
    engine = _engine(context, "restore", file)
    done = backup.restore(engine, file, context.now_ms(), force=force)
    if as_json:
        print_json(
            {
                "database": context.shown_database,
                "file": str(file),
                "previous": str(done.previous) if done.previous else None,
                "lost_entries": done.lost_entries,
                "migrations": done.migrations,
                "unsettled": done.unsettled,
                "check": done.report.as_dict(),
            }
        )
        return
    click.echo(f"{done.path}: restored from {file}; {_found(done.report)}")
    if done.migrations:
        click.echo(f"brought up to date: {', '.join(done.migrations)}")
    if done.previous:
        lost = f" ({done.lost_entries:,} entries are in it alone)" if done.lost_entries else ""
        click.echo(f"the ledger before: {done.previous}{lost}")
    if done.unsettled:
        click.echo(f"{done.unsettled:,} unsettled calls are charged when the sidecar starts")


@db.command("path")
@json_option
@pass_context
def db_path(context: Context, as_json: bool) -> None:
    """Print where the ledger is."""
    print_json({"database": context.shown_database}) if as_json else click.echo(context.shown_database)


def _engine(context: Context, doing: str, file: Path | None, *, create: bool = True) -> SqliteEngine:
    """The ledger's file, as it is. Raises LedgerError, naming the command that does it, for another database."""
    command = _postgres_command(context.database, doing, file)
    if command is not None:
        stopped = "stop the sidecars, then " if doing == "restore" else ""
        raise LedgerError(f"the ledger is in PostgreSQL, whose own tools {doing} it: {stopped}{command}")
    return backup.sqlite_engine(context.open_engine(create=create), doing)


def _postgres_command(url: str, doing: str, file: Path | None) -> str | None:
    """What backs up or restores a ledger in PostgreSQL; None for another URL. A password is not told."""
    if not url.startswith("postgres"):
        return None
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@") if parts.password else parts.netloc)
    name = file or Path("solaris.dump")
    if doing == "backup":
        return f"pg_dump --format=custom --file={name} '{shown.geturl()}'"
    return f"pg_restore --clean --if-exists --single-transaction --dbname='{shown.geturl()}' {name}"


def _found(report: Report | None) -> str:
    if report is None:
        return "whole; of an older version, so that its sums are checked when it is restored"
    return f"{report.accounts:,} accounts, {report.entries:,} entries, every sum is right"


def _progress() -> Progress:
    """Tells on stderr how far it is, once a second."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_AFTER_S:
            last = time.monotonic()
            click.echo(f"{100 * done // max(1, total)} % of {total:,} pages", err=True)

    return tell
