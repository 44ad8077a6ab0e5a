import json

import pytest
from tests.metering.calls import REQUESTS, read_whole

from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.dialects.embeddings import Embeddings

EMBEDDINGS = Embeddings()
PATH, ASKED = REQUESTS["embeddings"]
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}]}


def read(body, path=PATH):
    return EMBEDDINGS.read_request(path, body, len(json.dumps(body)))


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.user) == ("text-embedding-3-small", False, "65f0")
    assert request.max_output == 1
    assert read({}, "/openai/deployments/vetores/embeddings").model == "vetores"


@pytest.mark.parametrize(
    ("given", "text", "ids"),
    [
        ("Olá", "Olá", 0),
        (["um", "dois"], "um\ndois", 0),
        ([1, 2, 3], "", 3),
        ([[1, 2], [3]], "", 3),
        (["um", [1, 2]], "um", 2),
        (None, "", 0),
        ({"text": "?"}, "", 0),
    ],
)
def test_the_prompt_is_texts_and_tokens(given, text, ids):
    prompt = read({"input": given}).prompt()
    assert (prompt.messages, prompt.text, prompt.token_ids) == ((), text, ids)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, 8),
        ({"total_tokens": 8}, 8),  # Voyage
        ({"prompt_tokens": 8}, 8),
        ({"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}, 8),
    ],
)
def test_all_of_it_is_input(usage, tokens):
    found = read_whole(EMBEDDINGS, VECTORS | {"usage": usage})
    assert (found.input_tokens, found.output_tokens, found.basis) == (tokens, 0, "reported")


def test_vectors_without_usage_are_counted():
    found = read_whole(EMBEDDINGS, VECTORS, path=PATH, body={"input": ["um", [1, 2, 3]]})
    assert (found.input_tokens, found.output_tokens, found.basis) == (2 + 3, 0, "counted")


def test_the_model_is_the_one_that_answered():
    answer = Answer()
    EMBEDDINGS.read_body(answer, VECTORS | {"model": "text-embedding-3-small"})
    assert answer.terms == {"model": "text-embedding-3-small"}


def test_an_answer_without_vectors_costs_nothing():
    assert read_whole(EMBEDDINGS, {"error": {"message": "no"}}) is None


def test_there_is_no_output_to_limit():
    assert EMBEDDINGS.limit_output(ASKED, 7) is ASKED


def test_a_refusal_is_openais_error():
    assert EMBEDDINGS.denial(429, "insufficient_quota", "Acabou.", plain=True)["error"]["code"] == "insufficient_quota"
