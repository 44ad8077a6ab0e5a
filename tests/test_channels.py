"""Channels: which they are, for whom, and that nobody sees their secrets."""

import pytest

from solaris_meter.channels import is_address, parse_channel

MAIL = "mailto://robot:s3same@smtp.example.com:2525?to={email}&from=noreply@example.com"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (MAIL, "mailto://smtp.example.com:2525?to={email}"),
        ("mailtos://robot:s3same@example.com?to=ops@example.com", "mailtos://example.com?to=ops@example.com"),
        ("mailto://robot:s3same@[::1]:25?to=ops@example.com", "mailto://[::1]:25?to=ops@example.com"),
        ("webhook+https://hooks.example.com/in/s3same?secret=s3same", "webhook+https://hooks.example.com/…"),
        ("webhook+http://10.0.0.5:8000?secret=s3same&team=s3same", "webhook+http://10.0.0.5:8000"),
        ("jsons://user:s3same@hooks.example.com/s3same", "jsons://hooks.example.com/…"),
        ("slack://s3same/s3same/s3same/#general", "slack://****"),
        ("TGRAM://s3same/12345", "tgram://****"),
        ("whatsapp://s3same@s3same/+5511999999999", "whatsapp://****"),
    ],
)
def test_the_name_shows_where_and_no_secret(url, name):
    channel = parse_channel(url)
    assert channel.name == name
    assert "s3same" not in repr(channel) + str(channel)


@pytest.mark.parametrize(
    ("url", "personal"),
    [
        (MAIL, True),
        ("mailto://robot:x@example.com?to=ops@example.com", False),
        ("webhook+https://example.com/{email}?secret=abcd", True),
        ("slack://a/b/c", False),
    ],
)
def test_a_channel_with_the_address_in_it_is_for_the_user(url, personal):
    assert parse_channel(url).personal is personal


def test_the_address_is_filled_in_so_that_it_cannot_be_anything_else():
    channel = parse_channel(MAIL)
    assert "to=ana%2Bx%26cc%3Deve%40example.com&from" in channel.url_for("ana+x&cc=eve@example.com")


def test_a_corrected_password_is_the_same_channel():
    assert parse_channel(MAIL).id == parse_channel(MAIL.replace("s3same", "better")).id
    one, other = (f"webhook+https://h.example/x?secret={secret}" for secret in ("abcd", "efgh"))
    assert parse_channel(one).id == parse_channel(other).id


@pytest.mark.parametrize(
    "other",
    [
        MAIL.replace("mailto", "mailtos"),
        MAIL.replace("smtp.", "mx."),
        MAIL.replace("2525", "25"),
        MAIL.replace("robot", "other"),
        MAIL.replace("{email}", "ops@example.com"),
    ],
)
def test_anything_else_is_another_channel(other):
    assert parse_channel(MAIL).id != parse_channel(other).id


def test_channels_that_differ_in_their_keys_only_are_two():
    assert parse_channel("slack://aaaa/bbbb/cccc").id != parse_channel("slack://aaaa/bbbb/dddd").id


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (MAIL, "535 no s3same here"),
        (MAIL.replace("s3same", "s3%2Fsame"), "535 no s3/same here"),
        ("slack://s3same/token2/token3", "POST https://slack.example/s3same/token2 failed"),
        ("webhook+https://h.example/p4th?secret=s3same", "p4th answered s3same"),
        ("tgram://123456:abcdef/99887766", "no chat 99887766 of 123456:abcdef"),
    ],
)
def test_secrets_are_masked_in_errors(url, text):
    channel = parse_channel(url)
    masked = channel.mask(text)
    assert "****" in masked
    assert not [secret for secret in channel.secrets if secret in masked]
    for secret in ("s3same", "s3/same", "token2", "p4th", "99887766", "abcdef"):
        assert secret not in masked


def test_a_short_word_does_not_tear_a_text_to_pieces():
    assert parse_channel("mailto://u:a@h.example?to=o@example.com").mask("a bad day") == "a bad day"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3same", "not a URL"),
        ("", "not a URL"),
        ("://s3same", "not a URL"),
        ("mailto:s3same@example.com", "not a URL"),
        ("mailto://user:s3/same@example.com", r"mailto://\*\*\*\*: its host or port .* write %2F"),
        ("mailto://[s3same", "its host or port"),
        ("slack://s3same/ s3same", r"slack://\*\*\*\* holds a space"),
        ("webhook+https://example.com/s3same", "no secret .*secret="),
        ("webhook+https://?secret=s3same", "no host"),
    ],
)
def test_what_is_no_channel_is_refused_without_its_secrets(url, said):
    with pytest.raises(ValueError, match=said) as refused:
        parse_channel(url)
    assert "s3same" not in str(refused.value)
    assert "s3/same" not in str(refused.value)


@pytest.mark.parametrize("email", ["ana@example.com", "a.b+c@x.example", "josé@exemplo.com.br"])
def test_an_address(email):
    assert is_address(email)


@pytest.mark.parametrize(
    "email",
    [
        None,
        "",
        "ana",
        "ana@",
        "@x",
        "a@b, c@d",
        "a@b\nBcc: c@d",
        "Ana <a@b>",
        "a b@c",
        "a@b@c",
        "x" * 250 + "@b.example",
    ],
)
def test_no_address(email):
    assert not is_address(email)
