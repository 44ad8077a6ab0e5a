import pytest

from solaris_meter.metering import endpoints
from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages
from solaris_meter.metering.dialects.openai_chat import OpenAIChat


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/api/v1/chat/completions",
        "/openai/deployments/my-deployment/chat/completions",
        "/openai/v1/chat/completions",
        "/v1beta/openai/chat/completions",
        "/v1/chat/completions/",
    ],
)
def test_chat_completions_are_openai_chat(path):
    assert isinstance(endpoints.classify("POST", path), OpenAIChat)


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages", "/v1/messages/"])
def test_messages_are_anthropic(path):
    assert isinstance(endpoints.classify("POST", path), AnthropicMessages)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/files/file-1/content",
        "/v1/uploads",
        "/v1/vector_stores/vs_1/search",
        "/v1/moderations",
        "/v1/messages/count_tokens",
        "/v1/responses/input_tokens",
        "/v1beta/models/gemini-2.5-pro:countTokens",
        "/tokenize",
    ],
)
def test_what_runs_no_model_is_free(path):
    assert endpoints.classify("POST", path) == endpoints.FREE


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/responses/resp_1", "/v1/anything"])
def test_what_only_reads_or_deletes_runs_no_model(method, path):
    # GET /v1/responses/ID repeats a usage that was charged when it was made.
    assert endpoints.classify(method, path) == "free"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses",
        "/v1/embeddings",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        "/v1/images/generations",
        "/v1/chat/completions/batch",
        "/v1/messages/batches",
        "/v1/unmoderations-x",
        "/v1/models/gpt2",
        "/hf-inference/models/gpt2",
        "/v1/files/../responses",
        "/v1/files/%2e%2e/responses",
        "/openai/deployments/files/embeddings",
        "/v1beta/models/gemini-2.5%3AgenerateContent",
        "/",
        "",
    ],
)
def test_everything_else_is_unknown(path):
    assert endpoints.classify("POST", path) == "unknown"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "post", "BREW"])
def test_an_unusual_method_is_not_free(method):
    assert endpoints.classify(method, "/v1/chat/completions") == "unknown"


def test_percent_encoding_does_not_hide_a_dialect():
    assert isinstance(endpoints.classify("POST", "/v1/chat%2Fcompletions"), OpenAIChat)
