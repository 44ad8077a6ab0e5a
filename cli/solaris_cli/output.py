"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from tabulate import tabulate


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str], *, empty: str) -> None:
    """A table of the named columns, headed by their names or what they are mapped to; `empty` where there is no row."""
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    if not cells:
        click.echo(empty)
        return
    align = ["right" if _is_number(cells, index) else "left" for index in range(len(columns))]
    named = columns if isinstance(columns, Mapping) else {column: column.replace("_", " ") for column in columns}
    headers = list(named.values())
    click.echo(tabulate(cells, headers=headers, tablefmt="simple", colalign=align, disable_numparse=True))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {_cell(value)}")


def number(value: int) -> str:
    """A whole number with thousands separators."""
    return f"{value:,}"


def dollars(value: float | None) -> str:
    """A cost to the millionth of a US dollar; a dash where it is not known."""
    return "-" if value is None else f"{value:,.6f}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int) else str(value)


def _is_number(cells: list[list[str]], index: int) -> bool:
    column = [row[index] for row in cells if row[index] != "-"]
    return bool(column) and all(cell.lstrip("-").replace(",", "").replace(".", "").isdigit() for cell in column)
