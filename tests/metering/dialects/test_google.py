import json

import pytest
from google.genai.types import GenerateContentResponse
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, feed, open_call, open_document, read_whole, usage_of
from tests.metering.samples import cut_whole, payload

from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.dialects.google import Google, GoogleEmbeddings
from solaris_meter.metering.framing.json_array import JsonArray
from solaris_meter.metering.framing.sse import ServerSentEvents

GOOGLE, EMBEDDINGS = Google(), GoogleEmbeddings()
PATH, ASKED = REQUESTS["google"]


def read(body, path=PATH):
    return GOOGLE.read_request(path, body, len(json.dumps(body)))


def after(*events):
    answer = Answer()
    for event in events:
        GOOGLE.read_event(answer, event)
    return answer


def counts(**usage):
    return {"usageMetadata": usage}


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", False),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "gemini-2.5-pro", True),
        ("/v1beta/tunedModels/meu-modelo:generateContent", "meu-modelo", False),
        (
            "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash@001:streamGenerateContent",
            "gemini-2.5-flash@001",
            True,
        ),
        ("/v1/projects/p/locations/l/endpoints/123:generateContent", "123", False),
        ("/v1beta/models/gemini%2D2.5-pro:generateContent", "gemini-2.5-pro", False),
    ],
)
def test_the_path_names_the_model_and_whether_it_streams(path, model, stream):
    request = read({}, path)
    assert (request.model, request.stream) == (model, stream)


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.max_output, request.choices, request.user, request.wants_usage) == (50, 2, None, True)


@pytest.mark.parametrize(
    "body",
    [
        {"generation_config": {"max_output_tokens": 50, "candidate_count": 2}},
        {"generationConfig": {"max_output_tokens": 50, "candidate_count": 2}},
    ],
)
def test_snake_case_is_read_as_well(body):
    request = read(body)
    assert (request.max_output, request.choices) == (50, 2)


def test_the_prompt_is_instruction_contents_functions_and_schema():
    prompt = read(ASKED).prompt()
    assert prompt.messages == (
        {"role": "system", "content": "Seja breve."},
        {"role": "user", "content": "Olá"},
        {"role": "assistant", "content": '{"name": "clima", "args": {"a": 1}}'},
        {"role": "user", "content": '{"name": "clima", "response": {"b": 2}}'},
    )
    assert [tool["function"]["name"] for tool in prompt.tools] == ["clima", "hora"]
    assert prompt.tools[0]["function"]["parameters"] == {"type": "object"}
    assert '"type": ["string", "null"]' in prompt.schema
    assert prompt.attachments == 1


@pytest.mark.parametrize("contents", ["Olá", ["Olá"], [{"parts": ["Olá"]}], [{"parts": [{"text": "Olá"}]}]])
def test_short_forms_of_contents_are_read(contents):
    assert read({"contents": contents}).prompt().messages == ({"role": "user", "content": "Olá"},)


@pytest.mark.parametrize(
    ("body", "limited"),
    [
        ({}, {"generationConfig": {"maxOutputTokens": 7}}),
        (
            {"generationConfig": {"temperature": 1, "maxOutputTokens": 90}},
            {"generationConfig": {"temperature": 1, "maxOutputTokens": 7}},
        ),
        ({"generationConfig": {"maxOutputTokens": 3}}, {"generationConfig": {"maxOutputTokens": 3}}),
        ({"generation_config": {"max_output_tokens": 90}}, {"generation_config": {"maxOutputTokens": 7}}),
    ],
)
def test_the_limit_is_set(body, limited):
    before = json.dumps(body)
    assert GOOGLE.limit_output(body, 7) == limited
    assert json.dumps(body) == before


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"promptTokenCount": 40, "candidatesTokenCount": 11, "totalTokenCount": 51}, (40, 11, 0)),
        (
            {"promptTokenCount": 40, "candidatesTokenCount": 11, "thoughtsTokenCount": 100, "totalTokenCount": 151},
            (40, 111, 100),
        ),
        # Some answers have the thoughts among the candidates already: the total tells.
        (
            {"promptTokenCount": 40, "candidatesTokenCount": 111, "thoughtsTokenCount": 100, "totalTokenCount": 151},
            (40, 111, 100),
        ),
        (
            {
                "promptTokenCount": 60,
                "toolUsePromptTokenCount": 200,
                "candidatesTokenCount": 130,
                "thoughtsTokenCount": 100,
                "totalTokenCount": 390,
            },
            (260, 130, 100),
        ),
        ({"promptTokenCount": 40, "thoughtsTokenCount": 100, "totalTokenCount": 140}, (40, 100, 100)),
        ({"promptTokenCount": 12, "totalTokenCount": 12}, (12, None, 0)),
        ({"totalTokenCount": 12}, (None, None, 0)),
        ({"promptTokenCount": 0, "totalTokenCount": 0}, (0, None, 0)),
        ({"promptTokenCount": 4, "responseTokenCount": 2}, (4, 2, 0)),
    ],
)
def test_thoughts_are_counted_once(usage, tokens):
    answer = after(counts(**usage))
    assert (answer.input_tokens, answer.output_tokens, answer.reasoning_tokens) == tokens


def test_of_a_cumulative_usage_the_last_counts():
    answer = after(
        counts(promptTokenCount=40, candidatesTokenCount=1, totalTokenCount=41),
        counts(promptTokenCount=40, candidatesTokenCount=9, cachedContentTokenCount=30, totalTokenCount=49),
        {"candidates": []},
        counts(trafficType="ON_DEMAND"),
    )
    assert (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens) == (40, 9, 30)
    assert answer.terms["service_tier"] == "ON_DEMAND"


def test_a_later_chunk_takes_nothing_away_that_it_does_not_name():
    answer = after(
        counts(promptTokenCount=60, toolUsePromptTokenCount=200, thoughtsTokenCount=100, cachedContentTokenCount=30),
        counts(promptTokenCount=60, candidatesTokenCount=9),
    )
    assert answer.input_tokens == 260
    assert answer.output_tokens == 109
    assert answer.cached_input_tokens == 30


def test_an_answer_that_was_cut_before_its_output_was_told_is_counted():
    call = open_call(GOOGLE, path=PATH, body=ASKED)
    chunk = {"candidates": [{"content": {"parts": [{"text": "Olá"}]}}]} | counts(promptTokenCount=40)
    feed(call, [f"data: {json.dumps(chunk)}\r\n\r\n".encode()])
    usage = usage_of(call, client_left=True)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (40, 4, "counted")


def test_a_blocked_prompt_costs_what_was_read():
    usage = read_whole(GOOGLE, {"promptFeedback": {"blockReason": "SAFETY"}} | counts(promptTokenCount=12))
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (12, 0, "reported")


def test_a_block_without_counts_costs_nothing():
    # Model Armor blocks give a usageMetadata without numbers.
    blocked = {"promptFeedback": {"blockReason": "MODEL_ARMOR"}, "usageMetadata": {"trafficType": "ON_DEMAND"}}
    assert read_whole(GOOGLE, blocked) is None


def test_the_modalities_are_told_apart():
    answer = after(
        counts(
            promptTokenCount=300,
            toolUsePromptTokenCount=20,
            candidatesTokenCount=1290,
            promptTokensDetails=[
                {"modality": "TEXT", "tokenCount": 2},
                {"modality": "IMAGE", "tokenCount": 258},
                {"modality": "AUDIO", "tokenCount": 40},
            ],
            toolUsePromptTokensDetails=[{"modality": "IMAGE", "tokenCount": 10}],
            candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 1290}],
        )
    )
    assert answer.terms == {"image_input_tokens": 268, "audio_input_tokens": 40, "image_output_tokens": 1290}


def test_everything_that_was_generated_is_text():
    parts = [
        {"text": "Hm", "thought": True},
        {"text": "Olá"},
        {"functionCall": {"name": "clima", "args": {"a": 1}}},
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
    ]
    answer = after({"candidates": [{"content": {"parts": parts}}, {"content": {"parts": [{"text": "Oi"}]}}]})
    assert "".join(answer.text) == 'HmOláclima{"a": 1}1+1Oi'
    assert answer.ran


@pytest.mark.parametrize("number", [-1, 10**12, True, "7", 1.5])
def test_an_impossible_number_is_refused(number):
    answer = after(counts(promptTokenCount=40, candidatesTokenCount=number))
    assert answer.refused_usage
    assert answer.output_tokens is None


@pytest.mark.parametrize(("framing", "size"), [(ServerSentEvents, 1), (JsonArray, 1), (JsonArray, 300)])
def test_an_answer_that_is_ended_is_whole_for_the_sdk(framing, size):
    name = "gemini_stream_array.json" if framing is JsonArray else "gemini_stream.sse"
    call = open_call(GOOGLE, path=PATH, body=ASKED, granted=6, strict=True, framing=framing())
    data = payload(name)
    relayed = feed(call, [data[at : at + size] for at in range(0, len(data), size)])
    assert call.ended
    chunks = [json.loads(event.data) for event in cut_whole(framing(), [relayed]) if event.data]
    assert framing is ServerSentEvents or json.loads(relayed) == chunks
    *_, last = [GenerateContentResponse.model_validate(chunk) for chunk in chunks]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == "MAX_TOKENS"
    assert last.text == "NOTICE"
    assert last.response_id == "Zx12"
    assert last.usage_metadata is not None
    assert last.usage_metadata.prompt_token_count == 40


def test_an_answer_that_came_to_its_end_is_not_ended_again():
    call = open_call(GOOGLE, path=PATH, body=ASKED, granted=30, strict=True)
    data = payload("gemini_stream.sse")
    assert feed(call, [event.raw for event in cut_whole(ServerSentEvents(), [data])]) == data
    assert not call.ended


def test_a_refusal_is_googles_error():
    assert GOOGLE.denial(429, "insufficient_quota", "Acabou.", plain=False) == {
        "error": {"code": 429, "message": "Acabou.", "status": "RESOURCE_EXHAUSTED"}
    }
    assert GOOGLE.denial(418, "x", "?", plain=True)["error"]["status"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1beta/models/gemini-embedding-001:embedContent", {"content": {"parts": [{"text": "Olá"}]}}, "Olá"),
        (
            "/v1beta/models/gemini-embedding-001:batchEmbedContents",
            {"requests": [{"content": {"parts": [{"text": "um"}]}}, {"content": {"parts": [{"text": "dois"}]}}]},
            "um\ndois",
        ),
        (
            "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict",
            {"instances": [{"content": "um"}, {"content": "dois"}]},
            "um\ndois",
        ),
    ],
)
def test_what_is_embedded_is_counted_as_input(path, body, text):
    request = EMBEDDINGS.read_request(path, body, 10)
    assert (request.stream, request.max_output, request.images) == (False, 1, 0)
    assert request.prompt().text == text
    assert path.rpartition("/")[2].startswith(request.model)
    usage = read_whole(EMBEDDINGS, {"embedding": {"values": [0.1]}}, path=path, body=body)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (len(text.encode()), 0, "counted")


def test_vertex_counts_each_prediction():
    predictions = [{"embeddings": {"statistics": {"token_count": count}, "values": [0.1]}} for count in (5, 7.0)]
    usage = read_whole(EMBEDDINGS, {"predictions": predictions})
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (12, 0, "reported")


def test_newer_embeddings_tell_what_they_read():
    usage = read_whole(EMBEDDINGS, {"embedding": {"values": []}, "usageMetadata": {"promptTokenCount": 5}})
    assert (usage.input_tokens, usage.output_tokens) == (5, 0)


def test_pictures_are_paid_by_the_piece():
    path = "/v1beta/models/imagen-4.0-generate-001:predict"
    body = {"instances": [{"prompt": "um gato"}], "parameters": {"sampleCount": 3}}
    assert EMBEDDINGS.read_request(path, body, 10).images == 3
    assert EMBEDDINGS.read_request(path, {"instances": []}, 10).images == 1
    pictures = OTHER_ANSWERS["google-embeddings"][1][0]
    usage = read_whole(EMBEDDINGS, pictures, path=path, body=body)
    assert (usage.images, usage.input_tokens, usage.output_tokens) == (2, 0, 0)


def test_an_answer_without_vectors_costs_nothing():
    assert usage_of(open_document(EMBEDDINGS, b'{"error":{"code":400}}')) is None
