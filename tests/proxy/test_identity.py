import base64
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers

from solaris_meter.models import Caller
from solaris_meter.proxy import identity
from solaris_meter.proxy.identity import MAX_LENGTH, Identified, Refused
from solaris_meter.settings import Identity

DEFAULT = Identity()
LOCKED = Identity(key="segredo-çã")
USER = "65f0a1b2c3d4e5f6a7b8c9d0"


def headers(*fields):
    return Headers([(b"Host", b"api.openai.com"), *fields])


def as_librechat(text):
    """A value as LibreChat sends it: raw Latin-1 where that holds it, base64 of UTF-8 where it does not."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b"b64:" + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"65f0a1b2c3d4e5f6a7b8c9d0", USER),
        (b"  ana@example.com\t", "ana@example.com"),
        (b"Jos\xe9", "José"),
        ("José".encode(), "José"),
        (b"b64:TWFyacSH", "Marić"),
        (b"b64: TWFyacSH", None),
        (b"b64:!!!", None),
        (b"b64:/w==", None),
        (b"b64:caf\xe9", None),
        (b"b64:", None),
        (b"b64:" + base64.b64encode(b"a\nb"), None),
        (b"", None),
        (b"   ", None),
        (b"{{LIBRECHAT_USER_ID}}", None),
        (b"a{{LIBRECHAT_USER_EMAIL}}", None),
        (b"b64:" + base64.b64encode(b"{{LIBRECHAT_USER_ID}}"), None),
        (b"a\x00b", None),
        (b"a\r\nb", None),
        ("a\u202eb".encode(), None),
        (b"x" * MAX_LENGTH, "x" * MAX_LENGTH),
        (b"x" * (MAX_LENGTH + 1), None),
        ("e\u0301".encode(), "é"),
    ],
)
def test_a_header_value_is_decoded(raw, text):
    assert identity.decode(raw) == text


READABLE = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text and "{{" not in text and not text.startswith("b64:")
)


@given(READABLE)
def test_any_text_in_utf_8_is_read_back(text):
    composed = unicodedata.normalize("NFC", text)
    assert identity.decode(text.encode()) == composed
    assert identity.decode(b"b64:" + base64.b64encode(text.encode())) == composed


@given(READABLE)
def test_what_librechat_encodes_is_read_back(text):
    raw = as_librechat(text)
    if not raw.startswith(b"b64:"):
        with suppress(UnicodeDecodeError):
            text = raw.decode()  # Latin-1 that is valid UTF-8 as well ("Ã©") is read as UTF-8: nobody is called so
    expected = unicodedata.normalize("NFC", text).strip()
    printable = not any(unicodedata.category(char).startswith("C") for char in expected)
    assert identity.decode(raw) == (expected if expected and printable else None)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda raw: b"b64:" + raw))
def test_any_bytes_are_a_clean_text_or_nothing(raw):
    text = identity.decode(raw)
    if text is not None:
        assert 0 < len(text) <= MAX_LENGTH
        assert text == text.strip()
        assert "{{" not in text
        assert not any(unicodedata.category(char).startswith("C") for char in text)
        text.encode()


def test_the_headers_say_who_calls():
    found = identity.read(
        headers(
            (b"x-solaris-user", USER.encode()),
            (b"X-SOLARIS-EMAIL", b"jos\xe9@example.com"),
            (b"X-Solaris-Conversation", b"c1"),
        ),
        DEFAULT,
    )
    assert found == Identified(USER, "josé@example.com", "c1")


def test_no_headers_say_nothing():
    assert identity.read(headers(), DEFAULT) == Identified(None, None, None)


@pytest.mark.parametrize("email", [b"ana", b"ana@", b"@example.com", b"ana@example", b"a b@example.com", b"a@b@c.com"])
def test_an_email_that_is_none_is_left_out(email):
    found = identity.read(headers((b"X-Solaris-User", b"u"), (b"X-Solaris-Email", email)), DEFAULT)
    assert found == Identified("u", None, None)


@pytest.mark.parametrize("name", ["X-Solaris-User", "X-Solaris-Email", "X-Solaris-Conversation"])
def test_a_header_that_stands_twice_is_refused(name):
    twice = headers((name.encode(), b"a"), (name.lower().encode(), b"a"))
    with pytest.raises(Refused, match=f"{name} stands more than once"):
        identity.read(twice, DEFAULT)


def test_the_names_of_the_headers_are_settings():
    settings = Identity(user_header="X-Quem", email_header="X-Correio")
    found = identity.read(
        headers((b"x-quem", b"u"), (b"x-correio", b"a@b.co"), (b"X-Solaris-User", b"other")), settings
    )
    assert found == Identified("u", "a@b.co", None)


def test_the_right_key_opens():
    key = LOCKED.key.encode()
    assert identity.read(headers((b"x-solaris-key", key), (b"X-Solaris-User", b"u")), LOCKED).user == "u"


@pytest.mark.parametrize(
    ("shown", "problem"),
    [
        ([], "is missing"),
        ([b"errado"], "is wrong"),
        ([b""], "is wrong"),
        ([b"\xff\xfe"], "is wrong"),
        ([LOCKED.key.encode(), LOCKED.key.encode()], "stands more than once"),
    ],
)
def test_any_other_key_is_refused(shown, problem):
    with pytest.raises(Refused, match=f"X-Solaris-Key {problem}"):
        identity.read(headers(*[(b"X-Solaris-Key", key) for key in shown]), LOCKED)


def test_without_a_key_in_the_settings_none_is_asked_for():
    assert identity.read(headers((b"X-Solaris-Key", b"anything")), DEFAULT).user is None


@given(
    st.lists(
        st.tuples(st.sampled_from([b"X-Solaris-User", b"X-Solaris-Email", b"X-Solaris-Key"]), st.binary()), max_size=4
    )
)
def test_any_headers_are_read_or_refused(fields):
    for settings in (DEFAULT, LOCKED):
        try:
            found = identity.read(headers(*fields), settings)
        except Refused:
            continue
        assert found.user is None or found.user


def test_the_header_counts_before_the_body_and_the_body_before_anonymous():
    open_to_all = Identity(anonymous="account:visitantes")
    said, silent = Identified("ana", "a@b.co", "c1"), Identified(None, None, "c1")
    assert said.caller(open_to_all, "bia") == Caller("ana", "a@b.co", "c1")
    assert silent.caller(open_to_all, "bia") == Caller("bia", None, "c1")
    assert silent.caller(open_to_all, None) == Caller("visitantes", None, "c1")
    assert silent.caller(DEFAULT, None) is None


def test_without_any_header_of_ours_an_anonymous_account_pays_although_there_is_a_key():
    """LibreChat sends pictures and speech without a single one; the body is not believed then."""
    settings = Identity(key="0123456789abcdef", anonymous="account:visitantes")
    found = identity.read(headers((b"authorization", b"Bearer sk")), settings)
    assert found.caller(settings, "bia") == Caller("visitantes")


@pytest.mark.parametrize(
    "said", [[(b"X-Solaris-User", b"bia")], [(b"x-solaris-email", b"b@c.de")], [(b"X-Solaris-Key", b"wrong")]]
)
def test_whoever_says_who_they_are_must_show_the_key_all_the_same(said):
    with pytest.raises(Refused, match="X-Solaris-Key"):
        identity.read(headers(*said), Identity(key="0123456789abcdef", anonymous="account:visitantes"))


def test_the_body_counts_only_where_the_settings_say_so():
    assert Identified(None, None, None).caller(Identity(body_fallback=False), "bia") is None


@pytest.mark.parametrize("user", ["", "  ", "{{LIBRECHAT_USER_ID}}", "a\x00", "\ud800", "x" * 300])
def test_a_body_that_names_nobody_is_no_fallback(user):
    assert Identified(None, None, None).caller(DEFAULT, user) is None


def test_the_upstream_sees_neither_who_calls_nor_the_key():
    request = headers(
        (b"X-Solaris-User", b"u"),
        (b"x-solaris-user", b"again"),
        (b"X-SOLARIS-EMAIL", b"a@b.co"),
        (b"X-Solaris-Conversation", b"c"),
        (b"X-Solaris-Key", b"k"),
        (b"X-Solaris-Anything", b"x"),
        (b"Authorization", b"Bearer sk"),
    )
    identity.strip(request, DEFAULT)
    assert request.fields == ((b"Host", b"api.openai.com"), (b"Authorization", b"Bearer sk"))


def test_headers_named_in_the_settings_are_stripped_too():
    settings = Identity(user_header="X-Quem", key_header="X-Chave")
    request = headers((b"x-quem", b"u"), (b"X-CHAVE", b"k"), (b"X-Solaris-User", b"u"))
    identity.strip(request, settings)
    assert request.fields == ((b"Host", b"api.openai.com"),)


def test_a_name_that_is_not_ascii_does_not_keep_the_others_from_being_stripped():
    # mitmproxy refuses such names unless validate_inbound_headers is off; the key must not depend on that.
    request = headers((b"X-Solaris-\xe9", b"x"), (b"X-Solaris-Key", b"k"), (b"X-Solaris-User", b"u"))
    identity.strip(request, DEFAULT)
    assert b"X-Solaris-Key" not in [name for name, _ in request.fields]
    assert b"X-Solaris-User" not in [name for name, _ in request.fields]
