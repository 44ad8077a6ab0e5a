"""What the doctor says."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `subject` is a key, a file or a part; `remedy` what to do about a warning or a fault."""

    level: Literal["ok", "warning", "fault"]
    subject: str
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"level": self.level, "subject": self.subject, "text": self.text, "remedy": self.remedy}


def ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding("warning", subject, text, remedy)


def fault(subject: str, text: str, remedy: str) -> Finding:
    return Finding("fault", subject, text, remedy)
