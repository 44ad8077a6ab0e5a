import base64
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import dialect_called, json_objects, loaded_counter

from solaris_meter.metering.prompt import ATTACHMENT_BOUND, TOOL_TOKENS, count_attachments, measure

PICTURE = base64.b64encode(bytes(range(256)) * 40).decode()


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


def size_of(body):
    return measure(body, len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")))


def user_says(*content):
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": list(content)}]}


def test_the_bound_of_plain_text_is_its_bytes():
    body = {"messages": [{"role": "user", "content": "ação"}]}
    assert size_of(body).bound == len(json.dumps(body, ensure_ascii=False).encode())


def test_the_floor_is_a_quarter_of_the_text():
    assert measure({"prompt": "x" * 400, "n": 7, "stop": ["y" * 40]}, 1000).floor == 110


def test_the_floor_counts_bytes_and_not_characters():
    assert measure({"prompt": "ã" * 40}, 1000).floor == 20


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{PICTURE}"},
        {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PICTURE}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PICTURE}},
    ],
)
def test_an_encoded_file_is_counted_by_number_and_not_by_bytes(part):
    with_file, without = size_of(user_says({"type": "text", "text": "oi"}, part)), size_of(user_says())
    assert count_attachments(user_says(part)) == 1
    assert without.bound + ATTACHMENT_BOUND < with_file.bound < without.bound + ATTACHMENT_BOUND + 300
    assert with_file.floor < without.floor + 50


def test_a_picture_that_is_only_named_is_counted_too():
    assert count_attachments(user_says({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})) == 1


def test_base64_in_a_plain_text_is_text():
    # The model reads it token by token, whatever key it stands under.
    as_text = user_says({"type": "text", "text": PICTURE})
    as_data = user_says({"type": "text", "text": "", "data": PICTURE})
    for body in (as_text, as_data):
        assert size_of(body).bound >= len(PICTURE)
        assert count_attachments(body) == 0


def test_short_values_of_a_data_key_are_text():
    body = {"tool": {"data": "QUJD", "url": "https://example.com/" + "a" * 300}}
    assert size_of(body).bound == len(json.dumps(body))


@pytest.mark.parametrize("key", ["tools", "functions"])
def test_tools_set_something_aside_for_their_hidden_instructions(key):
    assert measure({key: [{}]}, 100).bound == 100 + TOOL_TOKENS
    assert measure({key: []}, 100).bound == 100


def test_a_schema_with_several_types_is_read_like_any_other():
    # {"type": ["string", "null"]} is how JSON Schema says "may be missing"; tools are full of it.
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}}
    assert count_attachments({"tools": [tool]}) == 0
    assert size_of({"tools": [tool]}).bound > TOOL_TOKENS


def test_a_body_nested_deeper_than_pythons_stack_is_measured():
    deep: list[object] = ["x" * 40]
    for _ in range(100_000):
        deep = [deep]
    assert measure({"messages": deep}, 200_040).floor == 10


def test_a_lone_surrogate_is_measured():
    assert measure({"prompt": "\ud83d" * 4}, 100).floor == 3


def test_nothing_is_smaller_than_one_token():
    assert measure({}, 0).bound == 1


@settings(deadline=None, max_examples=100)
@given(json_objects, st.integers(0, 10**6))
def test_any_body_can_be_measured(body, body_bytes):
    size = measure(body, body_bytes)
    assert size.bound >= 1
    assert size.floor >= 0
    assert count_attachments(body) >= 0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_the_bound_is_never_below_what_litellm_counts(counter, texts):
    # Normalised, as Claude's tokenizer does it first: "¼" alone would be three tokens of two bytes.
    messages = [{"role": "user", "content": unicodedata.normalize("NFKC", text)} for text in texts]
    for dialect, model in (("openai-chat", "gpt-4o"), ("anthropic", "claude-sonnet-4-5")):
        body = {"model": model, "messages": messages}
        raw = json.dumps(body, ensure_ascii=False).encode()
        request = dialect_called(dialect).read_request("", body, len(raw))
        assert request.size.bound >= counter.count_prompt(model, request.prompt()).tokens
