"""What every command needs: the settings, the ledger, the clock, and arguments read at the edge."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from solaris_meter.amounts import Money, parse_money, parse_tokens
from solaris_meter.errors import AmountError
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import Connection, Engine, open_engine, shown
from solaris_meter.ledger.rates import parse_rate
from solaris_meter.periods import to_iso, to_ms
from solaris_meter.settings import Settings, find_config, load_settings


class Context:
    """The root command's object: settings are read and the ledger is opened when a command first asks for them."""

    def __init__(self, config: str | None, database: str | None) -> None:
        self._config = config
        self._database = database

    @cached_property
    def config(self) -> Path | None:
        """The settings file in use; None: defaults and the environment."""
        return find_config(self._config)

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises SettingsError."""
        return load_settings(self.config)

    @property
    def database(self) -> str:
        """The URL of the ledger, which may hold a password."""
        settings = self.settings  # wrong ones are refused, also where the database is named otherwise
        return self._database or settings.ledger.database

    @property
    def shown_database(self) -> str:
        """The URL of the ledger as it may be printed."""
        return shown(self.database)

    @property
    def new_account(self) -> NewAccount:
        """What `users add` gives unless told otherwise."""
        accounts = self.settings.accounts
        return NewAccount(accounts.default_plan, accounts.timezone)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which dates without one are meant."""
        return ZoneInfo(self.settings.accounts.timezone)

    def now_ms(self) -> int:
        """The clock."""
        return time.time_ns() // 1_000_000

    def open_engine(self, *, create: bool = True) -> Engine:
        """The ledger's database, as it is. Raises Unavailable, also where there is none and `create` is false."""
        journal = self.settings.ledger.journal
        return open_engine(self.database, create=create, journal=Path(journal) if journal else None)

    def engine(self, *, create: bool = False) -> Engine:
        """The ledger's database, brought up to date. Raises Unavailable."""
        engine = self.open_engine(create=create)
        bring_up_to_date(engine)
        return engine

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[Connection]:
        """A write transaction; `create` makes the ledger where there is none."""
        connection = self.engine(create=create).connect()
        try:
            with connection.transaction():
                yield connection
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: everything read is of one moment, and the sidecar goes on writing."""
        connection = self.engine().connect()
        try:
            with connection.snapshot():
                yield connection
        finally:
            connection.close()


def bring_up_to_date(engine: Engine) -> None:
    """Migrate, and say on stderr where the ledger of an older version is kept. Raises Unavailable."""
    ran = engine.migrate()
    if engine.copied_to:
        click.echo(f"the ledger was upgraded ({', '.join(ran)}); as it was before: {engine.copied_to}", err=True)


pass_context = click.make_pass_decorator(Context)


class _Tokens(click.ParamType[int]):
    name = "amount"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_tokens(value, zero=self._zero)
        except AmountError as error:
            self.fail(str(error), param, ctx)


class _Money(click.ParamType[Money]):
    name = "money"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Money:
        if isinstance(value, Money):
            return value
        try:
            return parse_money(value)
        except AmountError as error:
            self.fail(str(error), param, ctx)


class _Rate(click.ParamType[int]):
    """A micro-rate."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_rate(value)
        except AmountError as error:
            self.fail(str(error), param, ctx)


class _When(click.ParamType["When"]):
    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "When":
        if isinstance(value, When):
            return value
        try:
            return When.parse(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time: write 2026-12-31, 2026-12-31T18:00, or a number of days such as 30d",
                param,
                ctx,
            )


class When:
    """A moment as it was written: a date or time (ISO 8601), or a number of days (`30d`)."""

    def __init__(self, moment: datetime | timedelta, text: str) -> None:
        self._moment = moment
        self._text = text

    @classmethod
    def parse(cls, text: str) -> "When":
        """Raises ValueError for what is no time."""
        if text.endswith("d") and text[:-1].isdigit():
            return cls(timedelta(days=int(text[:-1])), text)
        return cls(datetime.fromisoformat(text), text)

    def ms(self, context: Context, now_ms: int, *, back: bool = False) -> int:
        """The moment in UTC milliseconds; without a time zone it is meant in the accounts' own.

        `back`: a number of days is counted back from now. Raises AmountError for a moment that no calendar has.
        """
        if isinstance(self._moment, timedelta):
            moment = now_ms + int(self._moment.total_seconds() * 1000) * (-1 if back else 1)
        else:
            zoned = self._moment if self._moment.tzinfo else self._moment.replace(tzinfo=context.zone)
            moment = to_ms(zoned)
        try:
            to_iso(moment)
        except (ValueError, OverflowError, OSError) as error:
            raise AmountError(f"{self._text!r} is beyond the calendar; name a nearer time") from error
        return moment


TOKENS = _Tokens()
TOKENS_OR_ZERO = _Tokens(zero=True)
MONEY = _Money()
RATE = _Rate()
WHEN = _When()

Command = Callable[..., Any]


def json_option(function: Command) -> Command:
    """`--json`, for commands that print."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
