"""The catalogues of both languages, and the operator's own texts over them."""

import re
from dataclasses import replace

import pytest

from solaris_meter.chat import catalogue
from solaris_meter.chat.examples import ACTIVE, examples
from solaris_meter.chat.texts import Texts
from solaris_meter.errors import SettingsError
from solaris_meter.settings import Locale, Purchase, Settings, Web

PORTUGUESE, ENGLISH = (catalogue.load(language) for language in catalogue.LANGUAGES)
PURCHASE = Purchase(email="vendas@example.com", url="https://example.com/comprar")
FILLED = {
    (language, key): text
    for language in catalogue.LANGUAGES
    for key, text in examples(Texts(language, PURCHASE, "https://uso.example.com")).items()
}
OVERLONG = (
    r"context_length_exceeded|maximum context length|exceeds the context window|prompt is too long|reduce the length"
)
WAITING = r"(try again|retry|tente|espere|wait).{0,20}\d|retry[- ]?after|try again in|\d+ ?(s|ms|sec\w*|seg\w*)\b"


@pytest.fixture
def own(tmp_path):
    def written(text):
        file = tmp_path / "textos.toml"
        file.write_text(text, "utf-8")
        return file

    return written


def refusal(file):
    with pytest.raises(SettingsError) as caught:
        catalogue.own_texts(file)
    return str(caught.value)


# the catalogues


def test_both_languages_have_the_same_texts_in_the_same_order():
    assert list(PORTUGUESE) == list(ENGLISH)


@pytest.mark.parametrize("key", PORTUGUESE)
def test_both_languages_have_the_same_placeholders_and_no_other_brace(key):
    assert catalogue.placeholders(PORTUGUESE[key]) == catalogue.placeholders(ENGLISH[key])
    for text in (PORTUGUESE[key], ENGLISH[key]):
        assert not set("{}") & set(catalogue.PLACEHOLDER.sub("", text))
    assert ("\n" in PORTUGUESE[key]) == ("\n" in ENGLISH[key])
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", key)


def test_no_text_was_left_untranslated():
    same = {key for key in PORTUGUESE if PORTUGUESE[key] == ENGLISH[key]}
    assert same == {"usage_total", "tokens_one", "tokens_many"}


def test_every_text_is_one_that_an_operator_could_have_written(own):
    for texts in (PORTUGUESE, ENGLISH):
        file = own("".join(f'{key} = """\n{text}"""\n' for key, text in texts.items()))
        assert catalogue.own_texts(file) == dict(texts)


@pytest.mark.parametrize(("language", "key"), FILLED)
def test_no_text_is_taken_for_something_else_by_librechat(language, key):
    text = FILLED[language, key]
    assert text
    assert not set("{}\u2063") & set(text)
    # Waiting times make its client stack retry; the others make it take the error for an overlong context.
    assert not re.search(WAITING, text, re.IGNORECASE)
    assert not re.search(OVERLONG, text, re.IGNORECASE)
    assert "  " not in text
    assert not re.search(r" [.,;:]|\n\n\n|[ \n]\Z|\A[ \n]", text)
    if not key.startswith(("balance_", "mail_", "operator_")):
        assert "\n" not in text
        assert len(text) < 512  # where LibreChat cuts


def test_the_examples_are_of_every_text_and_of_that_very_one():
    for language in catalogue.LANGUAGES:
        marked = {key: f"<{key}>" + "".join(f"{{{name}}}" for name in catalogue.placeholders(text))
                  for key, text in catalogue.load(language).items()}  # fmt: skip
        filled = examples(Texts(language, PURCHASE, "https://uso.example.com", marked))
        assert list(filled) == list(catalogue.load(language))
        assert [key for key, text in filled.items() if not text.startswith(f"<{key}>")] == []


# own texts


def test_an_own_text_replaces_the_usual_one_and_the_others_stay(own):
    file = own('tokens_exhausted = "Acabou: {used}/{limit} ({balance}). {renewal_it} {buy} {usage_link}"\n')
    settings = Settings(locale=Locale(messages=str(file)), purchase=PURCHASE, web=Web(base_url="https://uso.example"))
    texts = Texts.from_settings(settings)
    spent = replace(ACTIVE, used=1_000_000, balance=0)
    assert texts.sentence("tokens_exhausted", spent).startswith("Acabou: 1.000.000/1.000.000 (0). Ele se renova")
    assert texts.sentence("account_blocked", spent).startswith("Sua conta está bloqueada")
    assert "https://uso.example" in texts.notice(spent)


def test_without_a_file_the_texts_are_the_usual_ones():
    assert Texts.from_settings(Settings()).own == {}
    assert Texts.from_settings(Settings(locale=Locale(language="en"))).text("until") == "until {date}"


@pytest.mark.parametrize("phrase", OVERLONG.split("|"))
def test_an_own_text_cannot_hold_the_words_of_an_overlong_context(own, phrase):
    longer = phrase.replace("length", "length of the messages") if phrase.startswith("reduce") else phrase
    assert "makes LibreChat take a refusal" in refusal(own(f'usage_total = "{longer.upper()}"\n'))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('tokens_exausted = "Acabou."', "tokens_exausted: there is no such text; did you mean tokens_exhausted?"),
        ('zzz = "?"', "zzz: there is no such text; 'solaris-cli messages show --usual' lists them"),
        ('until = "até"', "until: {date} is missing"),
        ('until = "até {day}"', "until: {day} is not a placeholder of this text; there are: {date}"),
        ('usage_total = "Soma {date}"', "usage_total: {date} is not a placeholder of this text; there are: none"),
        ('until = "até {date"', "until: a brace that belongs to no placeholder"),
        ('until = "até {date}}"', "until: a brace that belongs to no placeholder"),
        ('until = "até {{date}}"', "until: a brace that belongs to no placeholder"),
        ('until = "até {date} {}"', "until: a brace that belongs to no placeholder"),
        ('until = "até {date!r} {date}"', "until: a brace that belongs to no placeholder"),
        ('until = "até {date.year} {date}"', "until: a brace that belongs to no placeholder"),
        ('until = ""', "until: it is empty"),
        ("until = 5", "until: a text in quotation marks is expected"),
        ('[until]\ntext = "x"', "until: a text in quotation marks is expected"),
        ('account_blocked = """a\n{ask}"""', "account_blocked: it must be one line"),
        ('mail_blocked_subject = "a\\nBcc: b"', "mail_blocked_subject: it must be one line"),
        ('mail_blocked_subject = "a\\rBcc: b"', "mail_blocked_subject: it holds the character U+000D"),
        ('until = "\\u2063{date}"', "until: it holds the character U+2063"),
        (
            'account_blocked = "{ask} Try again in 20 seconds."',
            "account_blocked: 'Try again in' makes LibreChat repeat",
        ),
        ('account_blocked = "{ask} Tente de novo em 20 segundos."', "'Tente de novo em' makes LibreChat repeat"),
        ('account_blocked = "{ask} Retry-After: 20"', "'Retry-After' makes LibreChat repeat"),
        ('account_blocked = "{ask} The prompt is too long."', "'prompt is too long' makes LibreChat take a refusal"),
        ('until = "até', "it is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_key_the_file_and_what_to_do(own, text, named):
    file = own(text + "\n")
    message = refusal(file)
    assert named in message
    assert str(file) in message
    assert message.startswith("locale.messages: ")


def test_everything_that_is_wrong_is_told_at_once(own):
    file = own('until = "{day} }"\nunti = "x"\nrenewal = "Volta em {date}."\n')
    assert [problem.key for problem in catalogue.problems(file)] == ["until", "until", "until", "unti"]
    assert refusal(file).count("until: ") == 3


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    assert "No such file" in refusal(tmp_path / "nowhere.toml")
    assert str(tmp_path) in refusal(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes('until = "até {date}"'.encode("latin-1"))
    assert "not valid TOML" in refusal(latin)


def test_the_start_stops_at_a_file_that_cannot_be_used(own):
    settings = Settings(locale=Locale(messages=str(own('until = "até"\n'))))
    with pytest.raises(SettingsError, match="until"):
        Texts.from_settings(settings)


def test_an_own_text_may_join_emoji(own):
    assert catalogue.own_texts(own('until = "até {date} 👩‍💻"\n')) == {"until": "até {date} 👩‍💻"}
