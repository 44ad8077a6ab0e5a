"""Outlets: the channels of the settings, and which way out each of them is."""

from collections.abc import Sequence

from solaris_meter.channels import MAIL_SCHEMES, WEBHOOK_SCHEMES, Channel
from solaris_meter.errors import SettingsError
from solaris_meter.notify import gateway, mail, webhook
from solaris_meter.notify.message import Composed
from solaris_meter.notify.sender import NotDelivered, Sender

_SOMEBODY = "somebody@example.com"


class Outlets:
    """The channels by their ids."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = {channel.id: channel for channel in channels}

    @property
    def ids(self) -> list[str]:
        return list(self._channels)

    def check(self) -> None:
        """Raises SettingsError for the first channel that can never be sent to."""
        for channel in self._channels.values():
            problem = check(channel)
            if problem:
                raise SettingsError(f"alerts.channels: {channel.name}: {problem}")

    def send(self, channel_id: str, recipient: str | None, message: Composed, now_ms: int) -> None:
        """Send by a channel, to its user or to the operator. Raises NotDelivered, without any secret in its text."""
        send(self._channels[channel_id], recipient, message, now_ms)


def check(channel: Channel) -> str | None:
    """What is wrong with a channel's URL; None: it can be used. Nothing is sent."""
    try:
        _sender(channel, _SOMEBODY if channel.personal else None)
    except ValueError as error:
        return channel.mask(str(error))
    return None


def send(channel: Channel, recipient: str | None, message: Composed, now_ms: int) -> None:
    """Send by one channel. Raises NotDelivered, without any secret in its text."""
    try:
        _sender(channel, recipient).send(message, now_ms)
    except (NotDelivered, ValueError) as error:
        # `from None`: the traceback of what was below holds the URL.
        raise NotDelivered(channel.mask(str(error))) from None
    except Exception as error:
        raise NotDelivered(channel.mask(f"{type(error).__name__}: {error}")) from None


def _sender(channel: Channel, recipient: str | None) -> Sender:
    """Raises ValueError for a URL that cannot be used."""
    url = channel.url_for(recipient)
    if channel.scheme in MAIL_SCHEMES:
        return mail.Mail(url)
    if channel.scheme in WEBHOOK_SCHEMES:
        return webhook.Webhook(url)
    return gateway.Gateway(url)
