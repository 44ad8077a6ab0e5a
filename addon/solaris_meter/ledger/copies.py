"""Copies of a SQLite file: of one moment, checked, synced to disk, and under their own name only then."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from solaris_meter.errors import Unavailable

Progress = Callable[[int, int], None]
"""Told how many pages are copied, and of how many."""

_PAGES_AT_A_TIME = 2048
_SPARE_BYTES = 1 << 20


def write(
    source: sqlite3.Connection,
    target: Path,
    *,
    progress: Progress | None = None,
    prove: Callable[[Path], object] | None = None,
) -> None:
    """Copy what `source` sees to a new file that only its owner can read; writers go on meanwhile.

    The copy is one plain file without a WAL. Where `source` is in a transaction, its moment is copied. `prove` may look
    at the copy, and refuse it by raising, before it gets its name. Raises Unavailable, and leaves nothing behind, also
    where `target` is there already.
    """
    partial = target.with_name(f"{target.name}.partial")
    with refusing(f"{target} cannot be written"):
        if target.exists():
            raise Unavailable(f"{target} is there already, and is not overwritten; name another file")
        _check_space(source, target.absolute().parent)
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError as error:
            raise Unavailable(f"{partial} is there: another copy is being written, or one broke off; remove it") from (
                error
            )
        try:
            _fill(source, partial, progress)
            if prove is not None:
                prove(partial)
            sync(partial)
            _give_name(partial, target)
        finally:
            for file in (partial, *companions(partial)):
                file.unlink(missing_ok=True)


def give_name(partial: Path, target: Path) -> None:
    """Sync a finished file and let it be `target`. Raises Unavailable where that is there already."""
    with refusing(f"{target} cannot be written"):
        sync(partial)
        _give_name(partial, target)


def companions(path: Path) -> tuple[Path, Path]:
    """The files that SQLite may keep beside a database."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def check(raw: sqlite3.Connection, name: object) -> None:
    """Have SQLite check a database from its first to its last page. Raises Unavailable for a damaged one."""
    found = [row[0] for row in raw.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise Unavailable(f"{name} is damaged: {'; '.join(found)}")
    orphans = raw.execute("PRAGMA foreign_key_check").fetchall()
    if orphans:
        raise Unavailable(f"{name} is damaged: {len(orphans)} rows of {orphans[0][0]} and others point at nothing")


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Errors of SQLite and of the file system as Unavailable, beginning with what could not be done."""
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(f"{what}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror or error}") from error


def _fill(source: sqlite3.Connection, partial: Path, progress: Progress | None) -> None:
    def tell(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    # A copy in steps begins anew after each write of somebody else, unless the source holds on to its moment.
    with _moment(source), closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        source.backup(copy, pages=_PAGES_AT_A_TIME, progress=tell, sleep=0.01)
        copy.execute("PRAGMA journal_mode=DELETE")
        check(copy, f"the copy {partial}")


@contextmanager
def _moment(source: sqlite3.Connection) -> Iterator[None]:
    if source.in_transaction:
        yield
        return
    source.execute("BEGIN")
    try:
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield
    finally:
        source.execute("ROLLBACK")


def _check_space(source: sqlite3.Connection, folder: Path) -> None:
    pages = source.execute("PRAGMA page_count").fetchone()[0]
    needed = pages * source.execute("PRAGMA page_size").fetchone()[0] + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(
            f"a copy needs {needed >> 20:,} MiB in {folder}, which has {free >> 20:,} MiB left; make room there"
        )


def _give_name(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)  # unlike a renaming, this never takes the place of another file
    except FileExistsError as error:
        raise Unavailable(f"{target} is there already, and is not overwritten; name another file") from error
    except OSError:
        partial.rename(target)  # a file system without links
    with suppress(FileNotFoundError):
        partial.unlink()
    sync(target.absolute().parent)
