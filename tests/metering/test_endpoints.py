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
        "/v1/models",
        "/v1/models/gpt-4o",
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


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/responses/resp_1", "/v1/anything"])
def test_only_a_post_runs_a_model(method, path):
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
        "/",
        "",
    ],
)
def test_everything_else_is_unknown(path):
    assert endpoints.classify("POST", path) == "unknown"
