"""The URL of a ledger, `[ledger] database`: which engine it means, and how it may be printed."""

import re
from pathlib import Path

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.database.engine import Engine
from solaris_meter.ledger.database.sqlite import SqliteEngine

_POSTGRES = re.compile(r"postgres(ql)?:", re.IGNORECASE)
_USERINFO = re.compile(r"(^[a-z]+:(?://)?[^:/?#@]*):.*@", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)


def open_engine(url: str, *, create: bool = True, journal: Path | None = None) -> Engine:
    """The engine of a `[ledger] database` URL. Raises Unavailable, also where there is none and `create` is false.

    `journal` is the file for settlements that the database could not take; None: where the engine usually has it.
    """
    scheme, found, path = url.partition(":///")
    if found and scheme == "sqlite" and path and path != ":memory:":
        return SqliteEngine(Path(path), create=create, journal=journal)
    if _POSTGRES.match(url):
        try:  # not at the top: psycopg is an extra, and takes a start of the command line longer than everything else
            from solaris_meter.ledger.database.postgres import PostgresEngine
        except ImportError as error:
            raise Unavailable(
                "ledger.database: PostgreSQL needs psycopg, which is not installed: pip install"
                " 'solaris-meter[postgres]'"
            ) from error
        return PostgresEngine(url, create=create, journal=journal)
    raise Unavailable(
        f"ledger.database: {shown(url)!r} is not a database; write sqlite:///solaris.db or sqlite:////abs/path.db,"
        " or postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def shown(url: str) -> str:
    """The URL as people may see it: without its password, and rather with less than with a part of it."""
    return _PARAMETER.sub(r"\1***", _USERINFO.sub(r"\1:***@", url))
