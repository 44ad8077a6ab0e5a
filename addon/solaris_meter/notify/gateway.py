"""Every scheme that is not our own: Apprise.

Apprise is imported here and nowhere else, when the first channel of the settings is read. Its logger says things with
keys in them, and at level ERROR, at which mitmproxy would end its start: what it says goes nowhere but into our errors.
"""

import logging
import threading
from functools import cache
from typing import Any

from solaris_meter.notify.message import Composed
from solaris_meter.notify.sender import NotDelivered, Sender

APPLICATION = "Solaris Meter"


class Gateway(Sender):
    """A service that Apprise speaks. Raises ValueError for a URL that it cannot use."""

    def __init__(self, url: str) -> None:
        self._service = instantiate(url)

    def send(self, message: Composed, now_ms: int) -> None:
        with _Heard() as heard:
            done = self._service.notify(title=message.subject, body=message.text, body_format="text")
        if not done:
            raise NotDelivered(heard.text or "the service did not take the message")


def instantiate(url: str) -> Any:
    """Apprise's own object for a URL. Raises ValueError, with what Apprise says about it."""
    apprise = _apprise()
    with _Heard() as heard:
        asset = apprise.AppriseAsset(app_id=APPLICATION, secure_logging=True)
        service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise ValueError(_without_url(heard.text, url) or "Apprise does not know such a URL; see https://appriseit.com")
    return service


@cache
def _apprise() -> Any:
    import apprise

    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3").setLevel(logging.INFO)  # below, it tells whole paths
    return apprise


class _Heard(logging.Handler):
    """Hears what Apprise says in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return " ".join(dict.fromkeys(self._lines))

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(record.getMessage())

    def __enter__(self) -> "_Heard":
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _without_url(text: str, url: str) -> str:
    return text.replace(url, "it")
