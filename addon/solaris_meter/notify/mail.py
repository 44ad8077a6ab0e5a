"""E-mail. The URL is Apprise's (`mailto://user:pass@smtp.example.com?to={email}&from=…`), read by Apprise, with all it
knows of well-known providers; the message is made and sent here.

Apprise cannot send what these messages must be: its `NotifyEmail.prepare_emails` makes the text part out of the HTML by
itself and a new Message-ID at every try, by which nobody could drop a repeated message, and reports a failure as
False, without the server's answer.
"""

import logging
import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr

from solaris_meter.notify import gateway
from solaris_meter.notify.message import Composed
from solaris_meter.notify.sender import TIMEOUT_S, NotDelivered, Sender
from solaris_meter.periods import to_datetime

log = logging.getLogger(__name__)


class Mail(Sender):
    """One mailbox at one SMTP server. Raises ValueError for a URL that Apprise cannot read."""

    def __init__(self, url: str) -> None:
        self._to = gateway.instantiate(url)
        if not self._to.smtp_host:
            raise ValueError(
                "names no mail server; write mailto://user:pass@smtp.example.com, and %40 for an @ in user"
            )
        if not self._to.targets:
            raise ValueError("names nobody to write to; write to={email} or to=somebody@example.com")

    def send(self, message: Composed, now_ms: int) -> None:
        to = self._to
        letter = self.letter(message, now_ms)
        recipients = [address for _, address in to.targets] + sorted(to.cc | to.bcc)
        try:
            with self._connect() as server:
                refused = server.send_message(letter, to.from_addr[1], recipients)
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            raise NotDelivered(f"{to.smtp_host}:{to.port}: {_why(error)}") from error
        missed = {address: refused[address] for _, address in to.targets if address in refused}
        if missed:
            raise NotDelivered(f"{to.smtp_host}:{to.port}: {_answers(missed)}")
        if refused:  # copies: whom it is for has it, and must not get it again because of them
            log.warning("no copy of %s: %s", message.reference, _answers(refused))

    def letter(self, message: Composed, now_ms: int) -> EmailMessage:
        """The message as it goes over the wire: text, and HTML beside it."""
        to = self._to
        letter = EmailMessage(policy=SMTP)
        letter["From"] = formataddr((to.from_addr[0] or "", to.from_addr[1]))
        letter["To"] = ", ".join(formataddr((name or "", address)) for name, address in to.targets)
        if to.cc:
            letter["Cc"] = ", ".join(sorted(to.cc))
        if to.reply_to:
            letter["Reply-To"] = ", ".join(sorted(to.reply_to))
        letter["Subject"] = " ".join(message.subject.split())
        letter["Date"] = format_datetime(to_datetime(now_ms))
        letter["Message-ID"] = f"<{message.reference}@{to.from_addr[1].rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"  # no out-of-office note comes back (RFC 3834)
        if message.unsubscribe:
            letter["List-Unsubscribe"] = f"<{message.unsubscribe}>"
        for name, value in to.headers.items():
            del letter[name]
            letter[name] = value
        letter.set_content(message.text)
        letter.add_alternative(message.html, subtype="html")
        letter["Content-Language"] = message.language  # now: what is there before goes into the first part
        return letter

    def _connect(self) -> smtplib.SMTP:
        to = self._to
        context = ssl.create_default_context()
        if not to.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if to.secure_mode == "ssl":
            server: smtplib.SMTP = smtplib.SMTP_SSL(to.smtp_host, to.port, timeout=TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(to.smtp_host, to.port, timeout=TIMEOUT_S)
        try:
            if to.secure_mode == "starttls":
                server.starttls(context=context)
            if to.user and to.password:
                server.login(to.user, to.password)
        except BaseException:
            with suppress(OSError, smtplib.SMTPException):
                server.close()
            raise
        return server


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _answers(error.recipients)
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error.smtp_code, error.smtp_error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _answers(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {_answer(*answer)}" for address, answer in refused.items())


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
