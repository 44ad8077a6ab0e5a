"""E-mail, to a real mail server."""

import time

import pytest
from tests.ledger.support import NOON
from tests.notify.mailbox import Mailbox
from tests.notify.samples import EN, composed

from solaris_meter.notify.mail import Mail
from solaris_meter.notify.sender import NotDelivered


def deliver(mailbox, message, url=None):
    Mail(url or mailbox.url("ana@example.com")).send(message, NOON)
    return mailbox.letters[-1]


def test_a_letter_is_text_and_html_in_the_language_with_its_headers(mailbox):
    letter = deliver(mailbox, composed())
    assert letter.get_content_type() == "multipart/alternative"
    text, html = letter.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().splitlines() == composed().text.splitlines()
    assert html.get_content().splitlines() == composed().html.splitlines()
    assert letter["Subject"] == "Você já usou 85 % dos seus tokens"
    assert letter["Content-Language"] == "pt-BR"
    assert letter["From"] == "avisos@example.com"
    assert letter["To"] == "ana@example.com"
    assert letter["Date"].datetime.timestamp() * 1000 == NOON
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["List-Unsubscribe"] == "<mailto:vendas@example.com?subject=unsubscribe%20ana-1>"
    assert "mailto:vendas@example.com?subject=Comprar%20tokens%3A%20ana-1%2C%20plano%20pro" in html.get_content()
    assert mailbox.recipients == [["ana@example.com"]]


def test_a_letter_in_english(mailbox):
    letter = deliver(mailbox, composed(texts=EN))
    assert letter["Subject"] == "You have used 85% of your tokens"
    assert letter["Content-Language"] == "en"


def test_what_is_no_warning_cannot_be_unsubscribed(mailbox):
    assert deliver(mailbox, composed("credited"))["List-Unsubscribe"] is None


def test_every_try_has_the_same_message_id(mailbox):
    first, second = deliver(mailbox, composed()), deliver(mailbox, composed())
    assert first["Message-ID"] == second["Message-ID"] == f"<alert-12-{NOON}@example.com>"


def test_apprise_s_parameters_are_kept(mailbox):
    more = "&name=Financeiro&cc=a@example.com&bcc=b@example.com&reply=vendas@example.com&+X-Team=blue"
    letter = deliver(mailbox, composed(), mailbox.url("ana@example.com", more))
    assert letter["From"] == "Financeiro <avisos@example.com>"
    assert (letter["Cc"], letter["Bcc"], letter["Reply-To"]) == ("a@example.com", None, "vendas@example.com")
    assert letter["X-Team"] == "blue"
    assert mailbox.recipients == [["ana@example.com", "a@example.com", "b@example.com"]]


def test_who_is_not_named_writes_to_themselves(mailbox):
    letter = deliver(mailbox, composed(), f"mailto://127.0.0.1:{mailbox.port}?from=ops@example.com")
    assert letter["To"] == "ops@example.com"


def test_a_sender_without_a_name_has_ours(mailbox):
    letter = deliver(mailbox, composed(), f"mailto://ana@example.com:{mailbox.port}?smtp=127.0.0.1&to=ops@example.com")
    assert letter["From"] == "Solaris Meter <ana@example.com>"


@pytest.mark.filterwarnings("ignore:Requiring AUTH", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_server_wants_to_know_who_sends():
    mailbox = Mailbox(login=("robot", "s3same")).start()
    try:
        deliver(mailbox, composed())
        wrong = mailbox.url("ana@example.com").replace("s3same", "wr0ng")
        with pytest.raises(NotDelivered, match="535"):
            Mail(wrong).send(composed(), NOON)
    finally:
        mailbox.stop()
    assert len(mailbox.letters) == 1


@pytest.mark.parametrize(
    ("url", "host", "port", "mode", "user"),
    [
        ("mailto://ana:pw@gmail.com?to=x@example.com", "smtp.gmail.com", 587, "starttls", "ana@gmail.com"),
        ("mailtos://u:pw@smtp.example.com?from=a@example.com", "smtp.example.com", 587, "starttls", "u"),
        ("mailtos://u:pw@smtp.example.com?from=a@example.com&mode=ssl", "smtp.example.com", 465, "ssl", "u"),
        ("mailto://smtp.example.com:2525?from=a@example.com", "smtp.example.com", 2525, "insecure", None),
    ],
)
def test_a_url_means_what_it_means_to_apprise(url, host, port, mode, user):
    to = Mail(url)._to
    assert (to.smtp_host, to.port, to.secure_mode, to.user) == (host, port, mode, user)


def test_what_the_server_answers_is_the_error(mailbox):
    mailbox.answers = ["451 Try later", "550 No such user"]
    for said in ("451 Try later", "550 No such user"):
        with pytest.raises(NotDelivered, match=rf"127\.0\.0\.1:{mailbox.port}: {said}"):
            deliver(mailbox, composed())
    assert mailbox.letters == []


def test_a_header_of_the_url_comes_before_ours(mailbox):
    letter = deliver(mailbox, composed(), mailbox.url("ana@example.com", "&+Subject=Aviso&+Auto-Submitted=no"))
    assert (letter.get_all("Subject"), letter.get_all("Auto-Submitted")) == (["Aviso"], ["no"])


@pytest.mark.parametrize("refused", ["ana@example.com", "copy@example.com"])
def test_a_refused_copy_does_not_make_the_letter_come_again(mailbox, refused, caplog):
    mailbox.refused = {refused}
    url = mailbox.url("ana@example.com", "&bcc=copy@example.com")
    if refused == "ana@example.com":
        with pytest.raises(NotDelivered, match=r"ana@example\.com: 550 unknown"):
            deliver(mailbox, composed(), url)
    else:
        deliver(mailbox, composed(), url)
        assert "no copy of alert-12" in caplog.text


def test_nobody_listens(mailbox):
    mailbox.stop()
    with pytest.raises(NotDelivered, match="Connection refused"):
        deliver(mailbox, composed())


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(mailbox, monkeypatch):
    monkeypatch.setattr("solaris_meter.notify.mail.TIMEOUT_S", 0.2)
    mailbox.gate = lambda: time.sleep(0.6)
    with pytest.raises(NotDelivered, match="timed out"):
        deliver(mailbox, composed())


@pytest.mark.parametrize(
    "url",
    ["mailto://x", "mailto://smtp.example.com?to=ana@example.com", "mailtos://a@x.com:pw@smtp.example.com?to=b@c.com"],
)
def test_a_url_that_cannot_be_used(url):
    with pytest.raises(ValueError, match=r".+"):
        Mail(url)
