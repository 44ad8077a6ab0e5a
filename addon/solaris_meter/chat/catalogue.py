"""The catalogues: every text a person reads, one TOML file per language, and an operator's own texts over them.

A text has placeholders in braces, `{limit}`, and no other braces. An own text must have exactly the placeholders of the
one it replaces, so that nothing a person needs to know gets lost.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from solaris_meter.errors import SettingsError

LANGUAGES = ("pt-BR", "en")
"""Each has a file in `catalogues/`; the same keys and placeholders in all of them."""

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

HARMFUL: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"(?:try|retry)(?: again)? in\b|retry[- ]?after|(?:tente|tentar) (?:de novo|novamente|outra vez) em\b",
            re.IGNORECASE,
        ),
        "makes LibreChat repeat a refused call by itself; say what must happen first, not when to try again",
    ),
    (
        re.compile(
            r"context_length_exceeded|maximum context length|exceeds the context window|prompt is too long"
            r"|reduce the length of the messages",
            re.IGNORECASE,
        ),
        "makes LibreChat take a refusal for an overlong context and repeat the call; write it in other words",
    ),
)
"""What must not stand in a text, and why and what to do about it."""

_FOLDER = Path(__file__).parent / "catalogues"
_FIRST = LANGUAGES[0]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one own text. `key` is empty where the whole file cannot be read."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


@cache
def load(language: str) -> Mapping[str, str]:
    """The texts of one of LANGUAGES by key, in the order of the file."""
    texts = tomllib.loads((_FOLDER / f"{language}.toml").read_text("utf-8"))
    return MappingProxyType({key: text.strip("\n") for key, text in texts.items()})


def placeholders(text: str) -> set[str]:
    """The names in braces."""
    return set(PLACEHOLDER.findall(text))


def problems(path: Path) -> list[Problem]:
    """Everything that is wrong with a file of own texts; empty where it can be used."""
    try:
        texts = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        return [Problem("", f"it cannot be read ({error.strerror or error}); name a readable file in locale.messages")]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [Problem("", f"it is not valid TOML: {error}")]
    return [Problem(key, what) for key, text in texts.items() for what in _wrong(key, text)]


def own_texts(path: Path) -> dict[str, str]:
    """The operator's texts by key. Raises SettingsError, which names the file and all that is wrong with it."""
    found = problems(path)
    if found:
        what = "; ".join(map(str, found))
        raise SettingsError(
            f"locale.messages: {path}: {what} (correct it until 'solaris-cli messages check' is content)"
        )
    return {key: text.strip("\n") for key, text in tomllib.loads(path.read_text("utf-8")).items()}


def is_unprintable(character: str) -> bool:
    """Control characters, halves of a surrogate pair, and U+2063, which marks what the sidecar adds to an answer."""
    return unicodedata.category(character) in {"Cc", "Cs"} or character == "\u2063"


def _wrong(key: str, text: Any) -> list[str]:
    known = load(_FIRST)
    if key not in known:
        closest = get_close_matches(key, known, n=1)
        hint = f"did you mean {closest[0]}?" if closest else "'solaris-cli messages show --usual' lists them"
        return [f"there is no such text; {hint}"]
    if not isinstance(text, str):
        return ["a text in quotation marks is expected"]
    if not text.strip():
        return ["it is empty; remove the line to have the usual text"]
    return [*_wrong_placeholders(key, text), *_wrong_characters(key, text)]


def _wrong_placeholders(key: str, text: str) -> list[str]:
    found = []
    usual = load(_FIRST)[key]
    wanted, written = placeholders(usual), placeholders(text)
    if "{" in PLACEHOLDER.sub("", text) or "}" in PLACEHOLDER.sub("", text):
        found.append("a brace that belongs to no placeholder; braces are only written around a name, as in {limit}")
    if missing := [name for name in dict.fromkeys(PLACEHOLDER.findall(usual)) if name not in written]:
        found.append(f"{_in_braces(missing)} is missing; write it where the value belongs")
    if unknown := sorted(written - wanted):
        there_are = _in_braces(sorted(wanted)) or "none"
        found.append(f"{_in_braces(unknown)} is not a placeholder of this text; there are: {there_are}")
    return found


def _wrong_characters(key: str, text: str) -> list[str]:
    found = []
    if "\n" in text.strip("\n") and "\n" not in load(_FIRST)[key]:
        found.append("it must be one line")
    if strange := sorted({character for character in text if is_unprintable(character) and character != "\n"}):
        found.append(f"it holds the character U+{ord(strange[0]):04X}; remove it")
    found += [f"{harmful[0]!r} {why}" for pattern, why in HARMFUL if (harmful := pattern.search(text))]
    return found


def _in_braces(names: list[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
