import base64
import json

import pytest
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, feed, open_call, open_document, read_whole, usage_of
from tests.metering.samples import cut_whole, payload, pieces

from solaris_meter.metering.dialects.bedrock import BedrockConverse, BedrockInvoke
from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.framing.event_stream import EventStream

CONVERSE, INVOKE = BedrockConverse(), BedrockInvoke()
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def converse_after(*events):
    answer = Answer()
    for event in events:
        CONVERSE.read_event(answer, event)
    return answer


def streamed(*pieces):
    """An Invoke stream of these pieces."""
    framing = EventStream()
    wrapped = [json.dumps({"bytes": base64.b64encode(json.dumps(piece).encode()).decode()}) for piece in pieces]
    return b"".join(framing.encode("chunk", piece) for piece in wrapped)


def invoke_stream(*pieces, body=None, client_left=False):
    path = "/model/m/invoke-with-response-stream"
    call = open_call(INVOKE, path=path, body=body or {"prompt": "Oi"}, framing=EventStream())
    feed(call, [streamed(*pieces)])
    return usage_of(call, client_left=client_left)


def invoke(answer, headers=None, body=None):
    call = open_document(
        INVOKE, json.dumps(answer).encode(), headers, path="/model/m/invoke", body=body or {"prompt": "Oi"}
    )
    return usage_of(call)


def token_headers(**counts):
    return {f"x-amzn-bedrock-{name.replace('_', '-')}-token-count": str(count) for name, count in counts.items()}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/model/anthropic.claude-3-haiku-20240307-v1:0/{}", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("/model/anthropic.claude-3-haiku-20240307-v1%3A0/{}", "anthropic.claude-3-haiku-20240307-v1:0"),
        (f"/model/{ARN.replace(':', '%3A').replace('/', '%2F')}/{{}}", ARN),
        (f"/model/{ARN}/{{}}", ARN),
        ("/bedrock/model/m/{}", "m"),
    ],
)
@pytest.mark.parametrize(
    ("dialect", "operation", "stream"),
    [
        (CONVERSE, "converse", False),
        (CONVERSE, "converse-stream", True),
        (INVOKE, "invoke", False),
        (INVOKE, "invoke-with-response-stream", True),
    ],
)
def test_the_path_names_the_model_and_whether_it_streams(path, model, dialect, operation, stream):
    request = dialect.read_request(path.format(operation), {}, 2)
    assert (request.model, request.stream) == (model, stream)


def test_a_converse_request_is_read():
    path, body = REQUESTS["bedrock-converse"]
    request = CONVERSE.read_request(path, body, 10)
    assert (request.max_output, request.stream, request.wants_usage) == (50, True, True)
    prompt = request.prompt()
    assert prompt.messages == (
        {"role": "system", "content": "Seja breve."},
        {"role": "user", "content": "Olá\n"},
        {"role": "assistant", "content": 'clima {"a": 1}'},
        {"role": "user", "content": '42\n{"b": 2}'},
        {"role": "assistant", "content": "Hm"},
    )
    function = {"name": "clima", "description": "O tempo", "parameters": {"type": "object"}}
    assert prompt.tools == ({"type": "function", "function": function},)
    assert prompt.attachments == 1


@pytest.mark.parametrize(
    ("body", "max_output"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_tokens_to_sample": 50}, 50),
        ({"max_gen_len": 50}, 50),
        ({"inferenceConfig": {"maxTokens": 50}}, 50),
        ({"inferenceConfig": {"max_new_tokens": 50}}, 50),
        ({"textGenerationConfig": {"maxTokenCount": 50}}, 50),
        ({"max_completion_tokens": 50}, 50),
        ({}, None),
    ],
)
def test_each_family_has_its_word_for_the_limit(body, max_output):
    assert INVOKE.read_request("/model/m/invoke", body, 10).max_output == max_output


@pytest.mark.parametrize(
    ("body", "messages", "text"),
    [
        (
            {
                "anthropic_version": "bedrock-2023-05-31",
                "system": "S",
                "messages": [{"role": "user", "content": "Olá"}],
            },
            [("system", "S"), ("user", "Olá")],
            "",
        ),
        ({"messages": [{"role": "user", "content": [{"text": "Olá"}]}]}, [("user", "Olá")], ""),
        ({"messages": [{"role": "user", "content": "Olá"}]}, [("user", "Olá")], ""),
        ({"prompt": "Olá"}, [], "Olá"),
        ({"inputText": "Olá"}, [], "Olá"),
        ({"message": "Olá"}, [], "Olá"),
        ({"texts": ["um", "dois"], "input_type": "search_document"}, [], "um\ndois"),
    ],
)
def test_each_family_has_its_prompt(body, messages, text):
    prompt = INVOKE.read_request("/model/m/invoke", body, 10).prompt()
    assert [(message["role"], message["content"]) for message in prompt.messages] == messages
    assert prompt.text == text


def test_a_signed_request_is_limited_only_where_it_can_be():
    config = {"inferenceConfig": {"temperature": 1, "maxTokens": 90}}
    assert CONVERSE.limit_output(config, 7) == {"inferenceConfig": {"temperature": 1, "maxTokens": 7}}
    assert CONVERSE.limit_output({}, 7) == {"inferenceConfig": {"maxTokens": 7}}
    assert CONVERSE.limit_output({"inferenceConfig": {"maxTokens": 3}}, 7) == {"inferenceConfig": {"maxTokens": 3}}
    body = {"max_tokens": 90}
    assert INVOKE.limit_output(body, 7) is body


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"inputTokens": 5, "outputTokens": 2}, (5, 2, 0, 0)),
        (
            {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 20},
            (35, 2, 10, 20),
        ),
        ({"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokenCount": 10}, (15, 2, 10, 0)),
        # Both spellings of one number are one number.
        (
            {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 10, "cacheReadInputTokenCount": 10},
            (15, 2, 10, 0),
        ),
    ],
)
def test_converse_counts_the_cache_besides_the_input(usage, tokens):
    answer = converse_after({"metadata": {"usage": usage, "metrics": {"latencyMs": 5}}})
    assert tokens == (
        answer.input_tokens,
        answer.output_tokens,
        answer.cached_input_tokens,
        answer.cache_write_tokens,
    )
    assert CONVERSE.is_last({"metadata": {}})


def test_what_a_guardrail_used_is_no_usage():
    trace = {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {"inputTokens": 9999}}}}}}
    answer = converse_after({"metadata": {"usage": {"inputTokens": 5, "outputTokens": 2}, "trace": trace}})
    assert (answer.input_tokens, answer.output_tokens) == (5, 2)
    decoys = {"amazon-bedrock-trace": {"guardrail": {"input": {"usage": {"inputTokens": 9999}}}}}
    usage = invoke({"outputs": [{"text": "Olá"}]} | decoys)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (2, 4, "counted")


def test_everything_that_converse_generates_is_text():
    streamed = converse_after(
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t", "name": "clima"}}, "contentBlockIndex": 1}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"a":1}'}}, "contentBlockIndex": 1}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Hm"}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"text": "Olá"}, "contentBlockIndex": 3}},
    )
    assert "".join(streamed.text) == 'clima{"a":1}HmOlá'
    whole = Answer()
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "x"}}},
        {"text": "Olá"},
        {"toolUse": {"toolUseId": "t", "name": "clima", "input": {"a": 1}}},
    ]
    CONVERSE.read_body(whole, {"output": {"message": {"role": "assistant", "content": content}}})
    assert "".join(whole.text) == 'HmOláclima{"a": 1}'


def test_an_exception_in_the_stream_costs_what_was_said():
    call = open_call(CONVERSE, path="/model/m/converse-stream", body={"messages": []}, framing=EventStream())
    framing = EventStream()
    feed(
        call,
        [
            framing.encode("contentBlockDelta", '{"delta":{"text":"Ol\\u00e1"},"contentBlockIndex":0}'),
            framing.encode("modelStreamErrorException", '{"message":"broken"}'),
        ],
    )
    usage = usage_of(call)
    assert (usage.output_tokens, usage.basis) == (4, "counted")
    assert not call.finished


@pytest.mark.parametrize("size", [1, 100])
def test_an_ended_answer_is_whole_messages_with_a_stop_and_a_usage(size):
    call = open_call(CONVERSE, path="/model/m/converse-stream", body={}, framing=EventStream(), granted=5, strict=True)
    relayed = feed(call, pieces(payload("bedrock_converse_stream.bin"), size))
    assert call.ended
    events = [json.loads(event.data or b"") for event in cut_whole(EventStream(), [relayed])]
    said = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert said == ["Olá", "!", "NOTICE"]
    assert [next(iter(event)) for event in events[-3:]] == ["contentBlockStop", "messageStop", "metadata"]
    assert events[-2]["messageStop"]["stopReason"] == "max_tokens"
    assert events[-1]["metadata"]["usage"]["outputTokens"] == len("Olá!".encode())


def test_before_any_block_an_ending_closes_none():
    said = CONVERSE.ending(Answer(), "FIM", 3, 4, usage=True)
    assert [name for name, _ in said] == ["messageStop", "metadata"]
    usage = json.loads(said[-1][1])["usage"]
    assert usage == {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}


def test_no_notice_stands_between_the_arguments_of_a_tool():
    answer = converse_after({"contentBlockDelta": {"delta": {"toolUse": {"input": "{"}}, "contentBlockIndex": 0}})
    assert CONVERSE.ending(answer, "FIM", 3, 4, usage=True)[0] == ("contentBlockStop", '{"contentBlockIndex": 0}')


def test_invoke_is_told_by_its_headers():
    headers = token_headers(input=30, output=7, cache_read_input=10, cache_write_input=5)
    usage = invoke({"outputs": [{"text": "Olá"}]}, headers)
    assert (usage.input_tokens, usage.output_tokens) == (45, 7)
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.basis) == (10, 5, "reported")


def test_the_headers_are_believed_before_half_a_body():
    usage = invoke(
        {"output": {"message": {"content": [{"text": "Olá"}]}}, "usage": {"inputTokens": 999}},
        token_headers(input=30, output=7),
    )
    assert (usage.input_tokens, usage.output_tokens) == (30, 7)


def test_half_a_body_is_counted_on_its_other_side():
    usage = invoke({"output": {"message": {"content": [{"text": "Olá"}]}}, "usage": {"inputTokens": 30}})
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (30, 4, "counted")


@pytest.mark.parametrize("odd", ["", "x", "-1", "1.5", "9" * 30, "9" * 5000, "²"])
def test_a_header_that_is_no_count_is_passed_over(odd, caplog):
    usage = invoke({"outputs": [{"text": "Olá"}]}, token_headers(input=odd, output=7))
    assert usage.input_tokens == 2
    assert "cannot be read" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"inputTextTokenCount": 9, "results": [{"tokenCount": 3, "outputText": "Olá"}]}, (9, 3)),
        ({"inputTextTokenCount": 9.0, "results": [{"tokenCount": 3.0, "outputText": "Olá"}]}, (9, 3)),
        ({"embedding": [0.1], "inputTextTokenCount": 9}, (9, 0)),
        ({"generation": "Olá", "prompt_token_count": 12, "generation_token_count": 5}, (12, 5)),
        (
            {"output": {"message": {"content": [{"text": "Olá"}]}}, "usage": {"inputTokens": 5, "outputTokens": 2}},
            (5, 2),
        ),
        (
            {
                "type": "message",
                "content": [{"type": "text", "text": "Olá"}],
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 2},
            },
            (15, 2),
        ),
        ({"choices": [{"message": {"content": "Olá"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, (3, 2)),
        # AI21 and imported models, which speak like OpenAI.
        ({"completions": [{"data": {"text": "Olá"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, (3, 2)),
    ],
)
def test_each_family_tells_in_its_own_way(answer, tokens):
    usage = invoke(answer)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (*tokens, "reported")


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": [{"text": "Olá", "stop_reason": "stop"}]},
        {"generations": [{"id": "g", "text": "Olá"}]},
        {"completion": "Olá", "stop_reason": "stop_sequence"},
        {"completions": [{"data": {"text": "Olá"}}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": "Olá"}]}}]},
    ],
)
def test_a_family_that_tells_nothing_is_counted(answer):
    usage = invoke(answer)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (2, 4, "counted")


def test_vectors_and_pictures_owe_their_input():
    for answer in ({"embedding": [0.1]}, {"embeddings": [[0.1]]}, {"images": ["iVBO"]}):
        usage = invoke(answer)
        assert (usage.input_tokens, usage.output_tokens) == (2, 0)


def test_the_metrics_of_a_stream_are_believed_before_all_else():
    usage = invoke_stream(
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Olá"}},
        {"type": "message_delta", "usage": {"output_tokens": 999}},
        {
            "type": "message_stop",
            "amazon-bedrock-invocationMetrics": {
                "inputTokenCount": 8,
                "outputTokenCount": 2,
                "cacheReadInputTokenCount": 10,
                "cacheWriteInputTokenCount": 20,
            },
        },
    )
    assert (usage.input_tokens, usage.output_tokens) == (38, 2)
    assert (usage.cached_input_tokens, usage.cache_write_tokens) == (10, 20)


@pytest.mark.parametrize(
    ("pieces", "tokens"),
    [
        (OTHER_ANSWERS["bedrock-invoke"][0], (9, 3)),
        (OTHER_ANSWERS["bedrock-invoke"][3], (12, 2)),
        (OTHER_ANSWERS["bedrock-invoke"][4], (6, 2)),
    ],
    ids=["titan", "llama", "nova"],
)
def test_a_stream_without_metrics_tells_in_its_familys_way(pieces, tokens):
    usage = invoke_stream(*pieces)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (*tokens, "reported")


def test_a_cut_titan_stream_is_counted_where_it_told_nothing():
    # The output stands in the last chunk alone; until then it is not zero but unknown.
    first = {"outputText": "Olá", "index": 0, "inputTextTokenCount": 9, "totalOutputTextTokenCount": None}
    usage = invoke_stream(first, client_left=True)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (9, 4, "counted")


def test_a_cut_claude_stream_is_charged_for_its_input_as_told():
    usage = invoke_stream(
        {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Olá"}},
        client_left=True,
    )
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (25, 4, "counted")


def test_where_the_guardrail_answered_the_fields_of_the_family_count_its_words():
    blocked = {"amazon-bedrock-guardrailAction": "INTERVENED", "generation": "Não posso."}
    counts = {"prompt_token_count": 9999, "generation_token_count": 9999}
    usage = invoke(blocked | counts, token_headers(input=30, output=0))
    assert (usage.input_tokens, usage.output_tokens) == (30, 0)


@pytest.mark.parametrize(
    "wrapped", [b'{"bytes":"!!!"}', b'{"bytes":7}', b"{}", b'{"bytes":"' + base64.b64encode(b"[1]") + b'"}']
)
def test_a_chunk_that_holds_nothing_says_nothing(wrapped):
    call = open_call(INVOKE, path="/model/m/invoke-with-response-stream", body={"prompt": "Oi"}, framing=EventStream())
    feed(call, [EventStream().encode("chunk", wrapped.decode())])
    assert usage_of(call) is None


@pytest.mark.parametrize("dialect", [CONVERSE, INVOKE])
def test_a_refusal_is_an_exception_of_the_api(dialect):
    assert dialect.denial(429, "insufficient_quota", "Acabou.", plain=False) == {
        "__type": "ServiceQuotaExceededException",
        "message": "Acabou.",
    }
    assert dialect.denial(418, "x", "?", plain=True)["__type"] == "InternalServerException"


def test_an_error_costs_nothing():
    assert read_whole(CONVERSE, {"message": "Too many requests", "__type": "ThrottlingException"}) is None
    assert invoke({"message": "Malformed input request"}) is None
