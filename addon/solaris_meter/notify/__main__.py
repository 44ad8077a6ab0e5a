"""For the command line, which starts the other edges as programs: `python -m solaris_meter.notify check|test [EMAIL]`.

Prints a JSON list with an object for each channel of the settings (`SOLARIS_CONFIG`, or ./solaris.toml): `{"channel",
"to", "ok", "error"}`. `check` reads its URL, `test` sends one message to it; a channel for users is left out of a test
without an address (`ok` is null).
"""

import json
import sys
import time
import uuid
from typing import Any

from solaris_meter.channels import Channel
from solaris_meter.chat.texts import Texts
from solaris_meter.errors import SolarisError
from solaris_meter.notify import outlets
from solaris_meter.notify.message import compose_test
from solaris_meter.notify.sender import NotDelivered
from solaris_meter.settings import find_config, load_settings


def main(arguments: list[str]) -> int:
    """The exit code; what stands in the way of everything goes to stderr."""
    try:
        settings = load_settings(find_config(None))
        channels = settings.alerts.parsed_channels
        if arguments[0] == "check":
            found = [_result(channel, None, outlets.check(channel)) for channel in channels]
        else:
            texts = Texts.from_settings(settings)
            found = [_test(channel, texts, arguments[1] if len(arguments) > 1 else None) for channel in channels]
    except SolarisError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found))
    return 0


def _test(channel: Channel, texts: Texts, email: str | None) -> dict[str, Any]:
    if channel.personal and email is None:
        return {
            "channel": channel.name,
            "to": None,
            "ok": None,
            "error": "it is for users: name an address with --email",
        }
    recipient = email if channel.personal else None
    now_ms = time.time_ns() // 1_000_000
    try:
        outlets.send(channel, recipient, compose_test(f"test-{uuid.uuid4()}", now_ms, texts), now_ms)
    except NotDelivered as error:
        return _result(channel, recipient, str(error))
    return _result(channel, recipient, None)


def _result(channel: Channel, recipient: str | None, error: str | None) -> dict[str, Any]:
    return {"channel": channel.name, "to": recipient, "ok": error is None, "error": error}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
