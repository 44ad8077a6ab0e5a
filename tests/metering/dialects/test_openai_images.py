import json

import pytest
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, feed, open_call, open_document, read_whole, usage_of
from tests.metering.samples import payload

from solaris_meter.metering.dialects.dialect import MAX_CHOICES, Answer
from solaris_meter.metering.dialects.openai_images import OpenAIImages

IMAGES = OpenAIImages()
PATH, ASKED = REQUESTS["openai-images"]


def read(body, path=PATH):
    return IMAGES.read_request(path, body, 100)


@pytest.mark.parametrize(
    ("body", "model", "pictures", "paid_by_the_piece"),
    [
        ({"model": "dall-e-3", "n": 2}, "dall-e-3", 2, 2),
        ({}, "dall-e-2", 1, 1),
        ({"model": "gpt-image-1", "n": 3}, "gpt-image-1", 3, 0),
        ({"model": "chatgpt-image-latest"}, "chatgpt-image-latest", 1, 0),
        # An edit comes as a form, whose numbers are texts.
        ({"model": "dall-e-2", "n": "4", "image": b"\x89PNG"}, "dall-e-2", 4, 4),
        ({"model": "dall-e-2", "n": "x"}, "dall-e-2", 1, 1),
        ({"model": "dall-e-2", "n": -1}, "dall-e-2", 1, 1),
    ],
)
def test_the_pictures_that_are_asked_for_are_held(body, model, pictures, paid_by_the_piece):
    request = read(body)
    assert (request.model, request.choices, request.images) == (model, pictures, paid_by_the_piece)


@pytest.mark.parametrize("count", [10**9, "1000000000000", "9" * 30, "9" * 5000])
def test_an_absurd_number_of_pictures_is_a_bounded_one(count):
    request = read({"model": "dall-e-2", "n": count})
    assert 1 <= request.choices <= MAX_CHOICES
    assert request.images <= 10**9


def test_the_prompt_is_what_is_to_be_seen():
    assert read(ASKED).prompt().text == "um gato"
    assert read({"prompt": "um gato", "image": b"\x89PNG"}, "/v1/images/edits").prompt().attachments == 1
    assert read({}).user is None
    assert read(ASKED).user == "65f0"


def test_a_deployment_is_a_model():
    assert read({}, "/openai/deployments/dalle3/images/generations").model == "dalle3"


def test_tokens_are_charged_where_they_are_told():
    call = open_document(IMAGES, payload("openai_image_gptimage.json"), path=PATH, body={"model": "gpt-image-1"})
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.images) == (50, 1056, 0)
    assert call.price_terms.image_input_tokens == 40
    assert call.price_terms.image_output_tokens == 1056
    assert (call.price_terms.image_size, call.price_terms.image_quality) == ("1024x1024", "medium")


def test_pictures_are_charged_where_none_are():
    # Two were asked for, one came.
    call = open_document(IMAGES, b'{"data":[{"url":"https://a.example/1.png"}]}', path=PATH, body=ASKED)
    usage = usage_of(call)
    assert (usage.images, usage.input_tokens, usage.output_tokens, usage.basis) == (1, 0, 0, "reported")
    assert (call.price_terms.image_size, call.price_terms.image_quality) == ("1024x1024", "hd")


def test_the_size_that_was_made_counts_before_the_one_asked_for():
    body = {"data": [{}], "size": "1536x1024", "quality": "low"}
    call = open_document(IMAGES, json.dumps(body).encode(), path=PATH, body=ASKED)
    usage_of(call)
    assert (call.price_terms.image_size, call.price_terms.image_quality) == ("1536x1024", "low")


def test_a_streamed_picture_is_charged_when_it_is_done():
    call = open_call(IMAGES, path=PATH, body={"model": "gpt-image-1", "stream": True})
    partial, done = OTHER_ANSWERS["openai-images"][0]
    feed(call, [f"data: {json.dumps(partial)}\n\n".encode()])
    assert not call.finished
    feed(call, [f"data: {json.dumps(done)}\n\n".encode()])
    assert call.finished
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.images) == (5, 9, 0)


def test_a_stream_without_usage_is_paid_by_the_piece():
    answer = Answer()
    for _ in range(2):
        IMAGES.read_event(answer, {"type": "image_edit.completed", "b64_json": "iVBO"})
    IMAGES.conclude(answer, read({"model": "x", "size": "512x512"}))
    assert (answer.images, answer.terms) == (2, {"image_size": "512x512"})


def test_an_answer_without_pictures_costs_nothing():
    assert read_whole(IMAGES, {"error": {"code": "moderation_blocked"}}, path=PATH, body=ASKED) is None
    assert read_whole(IMAGES, {"data": []}, path=PATH, body=ASKED) is None


def test_a_refusal_is_openais_error():
    assert IMAGES.denial(429, "insufficient_quota", "Acabou.", plain=True)["error"]["message"] == "Acabou."
