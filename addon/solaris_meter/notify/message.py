"""An alert as people and programs read it: subject, text, HTML and JSON."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from solaris_meter.chat.texts import Texts
from solaris_meter.ledger import reports
from solaris_meter.ledger.outbox import Event, Message
from solaris_meter.models import Standing
from solaris_meter.periods import to_iso
from solaris_meter.settings import Purchase

_WARNINGS = {"threshold", "exhausted"}


@dataclass(frozen=True, slots=True)
class Composed:
    """A message, ready to be sent. `reference` is the same at every try.

    `unsubscribe` is the `mailto:` address at which a person may ask for no more of these; empty: it is no warning.
    """

    reference: str
    subject: str
    text: str
    html: str
    language: str
    json: dict[str, Any]
    unsubscribe: str = ""


def compose(message: Message, texts: Texts) -> Composed:
    """What an outbox message says: to the user, or to the operator where it has no recipient."""
    event = message.event
    personal = message.recipient is not None
    standing = event.standing
    named = replace(texts, purchase=_named(texts.purchase, standing))
    mail = named.mail(event.kind, standing, audience="mail" if personal else "operator", amount=event.amount or 0)
    return Composed(
        reference=message.reference,
        subject=mail.subject,
        text=mail.body,
        html=_html(mail.body, texts.language, _links(named, standing)),
        language=texts.language,
        json=as_json(message.reference, event),
        unsubscribe=_unsubscribe(texts.purchase, standing) if personal and event.kind in _WARNINGS else "",
    )


def compose_test(reference: str, now_ms: int, texts: Texts) -> Composed:
    """A message that says that messages arrive."""
    text = texts.fill("mail_test_body", {})
    return Composed(
        reference=reference,
        subject=texts.fill("mail_test_subject", {}),
        text=text,
        html=_html(text, texts.language, {}),
        language=texts.language,
        json={"id": reference, "kind": "test", "at": to_iso(now_ms)},
    )


def as_json(reference: str, event: Event) -> dict[str, Any]:
    """The body of our webhook. Its names and shapes are a contract: add, never rename.

    `{"id", "kind", "at", "threshold", "amount", "paid", "entry", "account"}`: `kind` is `threshold`, `exhausted`,
    `credited`, `blocked` or, with `id` and `at` alone, `test`; `account` is what `solaris-cli balance --json` shows, as
    it was then; the others are null where they do not apply.
    """
    return {
        "id": reference,
        "kind": event.kind,
        "at": to_iso(event.at_ms),
        "threshold": event.threshold,
        "amount": event.amount,
        "paid": event.paid,
        "entry": event.entry,
        "account": reports.standing(event.standing),
    }


def _named(purchase: Purchase, standing: Standing) -> Purchase:
    """The same shop, with an address that says who comes, and on which plan."""
    if not purchase.url:
        return purchase
    try:
        parts = urlsplit(purchase.url)
    except ValueError:  # a bracket that is not closed; people may still make something of it
        return purchase
    query = [*parse_qsl(parts.query, keep_blank_values=True), ("user", standing.user), ("plan", standing.plan)]
    return Purchase(email=purchase.email, url=urlunsplit(parts._replace(query=urlencode(query))))


def _links(texts: Texts, standing: Standing) -> dict[str, str]:
    """What is a link where it stands in the text, and where it leads."""
    purchase = texts.purchase
    links = {address: address for address in (purchase.url, texts.base_url) if address}
    if purchase.email:
        subject = texts.fill("order_subject", {"user": standing.user, "plan": standing.plan})
        links[purchase.email] = f"mailto:{quote(purchase.email, safe='@')}?subject={quote(subject, safe='')}"
    return links


def _unsubscribe(purchase: Purchase, standing: Standing) -> str:
    if not purchase.email:
        return ""
    return f"mailto:{quote(purchase.email, safe='@')}?subject={quote(f'unsubscribe {standing.user}', safe='')}"


def _html(text: str, language: str, links: Mapping[str, str]) -> str:
    """The text as a plain page: paragraphs, line breaks and links, nothing that is loaded from anywhere."""
    shown = {escape(place): f'<a href="{escape(target)}">{escape(place)}</a>' for place, target in links.items()}
    # The longest first: the address of one page may be the beginning of another's.
    places = "|".join(re.escape(place) for place in sorted(shown, key=len, reverse=True))
    paragraphs = []
    for part in re.split(r"\n{2,}", text.strip()):
        safe = escape(part)
        linked = re.sub(places, lambda found: shown[found[0]], safe) if places else safe
        paragraphs.append("<p>" + linked.replace("\n", "<br>\n") + "</p>")
    body = "\n".join(paragraphs)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"></head>\n'
        '<body style="font-family: sans-serif; font-size: 16px; line-height: 1.5; max-width: 36em; margin: 1em">\n'
        f"{body}\n</body>\n</html>\n"
    )
