import pytest
from tests.metering.samples import ALL_DIALECTS, dialect_called

from solaris_meter.metering import endpoints

ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-sonnet-4-5-v1%3A0"
VERTEX = "/v1/projects/p/locations/l/publishers"

PATHS = {
    "openai-chat": [
        "/v1/chat/completions",
        "/chat/completions",
        "/api/v1/chat/completions",
        "/openai/deployments/my-deployment/chat/completions",
        "/openai/v1/chat/completions",
        "/v1beta/openai/chat/completions",
        "/inference/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat%2Fcompletions",
        "/v1/fim/completions",
        "/v1/agents/completions",
        "/v1/chat",
    ],
    "openai-completions": [
        "/v1/completions",
        "/openai/deployments/my-deployment/completions",
        "/v1/engines/davinci/completions",
    ],
    "openai-responses": ["/v1/responses", "/openai/v1/responses", "/openai/responses", "/v1/responses/compact"],
    "anthropic": [
        "/v1/messages",
        "/anthropic/v1/messages",
        "/v1/messages/",
        f"{VERTEX}/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
        f"{VERTEX}/anthropic/models/claude-sonnet-4-5%4020250929:streamRawPredict",
    ],
    "google": [
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        "/v1beta/models/gemini-2.5%3AgenerateContent",
        "/v1beta/tunedModels/meu:generateContent",
        f"{VERTEX}/google/models/gemini-2.5-pro:streamGenerateContent",
        "/v1/projects/p/locations/l/endpoints/123:generateContent",
    ],
    "google-embeddings": [
        "/v1beta/models/gemini-embedding-001:embedContent",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        f"{VERTEX}/google/models/text-embedding-005:predict",
    ],
    "bedrock-converse": [
        "/model/anthropic.claude-3-haiku-20240307-v1:0/converse",
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
        f"/model/{ARN}/converse",
    ],
    "bedrock-invoke": [
        "/model/amazon.titan-text-express-v1/invoke",
        f"/model/{ARN}/invoke-with-response-stream",
    ],
    "ollama": ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"],
    "embeddings": ["/v1/embeddings", "/openai/deployments/files/embeddings"],
    "openai-images": ["/v1/images/generations", "/v1/images/edits", "/v1/images/variations"],
    "openai-transcription": ["/v1/audio/transcriptions", "/v1/audio/translations"],
    "openai-speech": ["/v1/audio/speech", "/openai/deployments/fala/audio/speech"],
}
COHERES = [
    "/v2/chat",
    "/v1/chat",
    "/v1/generate",
    "/v1/embed",
    "/v2/embed",
    "/v2/rerank",
    "/v1/classify",
    "/v1/summarize",
]


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in PATHS.items() for path in paths])
def test_a_path_leads_to_its_dialect(name, path):
    assert endpoints.classify("POST", path) is dialect_called(name)
    assert endpoints.classify("POST", path, "some-route", {}) is dialect_called(name)


def test_every_dialect_has_its_path():
    without = {"cohere", "generic", "openai-realtime"}
    assert {dialect.name for dialect in ALL_DIALECTS} == set(PATHS) | without
    assert len({dialect.name for dialect in ALL_DIALECTS}) == len(ALL_DIALECTS)


@pytest.mark.parametrize("path", COHERES)
def test_coheres_paths_are_coheres_on_its_own_host(path):
    assert endpoints.classify("POST", path, "cohere") is dialect_called("cohere")


def test_one_path_may_be_two_apis():
    # Writer's chat is OpenAI's; Cohere's first version says `message` and not `messages`.
    assert endpoints.classify("POST", "/v1/chat", "writer") is dialect_called("openai-chat")
    assert endpoints.classify("POST", "/v1/chat", "writer", {"messages": []}) is dialect_called("openai-chat")
    assert endpoints.classify("POST", "/v1/chat", None, {"message": "Olá"}) is dialect_called("cohere")
    assert endpoints.classify("POST", "/v2/rerank", "jina") == "unknown"


def test_a_body_may_tell_what_a_path_did_not():
    chat = dialect_called("openai-chat")
    assert endpoints.by_body(chat, "POST", "/v1/chat", "local", {"message": "Olá"}) is dialect_called("cohere")
    assert endpoints.by_body(chat, "POST", "/v1/chat", "local", {"messages": []}) is chat
    assert endpoints.by_body(chat, "POST", "/v1/chat/completions", "local", {"message": "Olá"}) is chat
    generic = endpoints.GENERIC
    assert endpoints.by_body(generic, "POST", "/v1/embed", "local", {"texts": []}) is dialect_called("cohere")
    assert endpoints.by_body(generic, "POST", "/v1/anything", "local", {"message": "Olá"}) is generic
    assert endpoints.by_body(endpoints.REALTIME, "GET", "/v1/realtime", "openai", {}) is endpoints.REALTIME


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/files/file-1/content",
        "/v1beta/files",
        "/v1/uploads",
        "/v1/uploads/u_1/parts",
        "/v1/vector_stores/vs_1/search",
        "/v1/moderations",
        "/v1/messages/count_tokens",
        "/v1/responses/input_tokens",
        "/v1/responses/resp_1/cancel",
        "/v1beta/models/gemini-2.5-pro:countTokens",
        f"{VERTEX}/anthropic/models/count-tokens:rawPredict",
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/count-tokens",
        "/tokenize",
        "/v1/detokenize",
        "/v1/check-api-key",
        "/v1/threads",
        "/v1/threads/thread_1",
        "/v1/threads/thread_1/messages",
        "/v1/threads/thread_1/messages/msg_1",
        "/v1/assistants",
        "/api/show",
        "/api/pull",
        "/api/blobs/sha256:29fdb92e57cf",
    ],
)
def test_what_runs_no_model_is_free(path):
    assert endpoints.classify("POST", path) == endpoints.FREE


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/v1/responses/resp_1", "/v1/anything", "/api/tags", "/v1/realtime"]
)
def test_what_only_reads_or_deletes_runs_no_model(method, path):
    # GET /v1/responses/ID repeats a usage that was charged when it was made.
    assert endpoints.classify(method, path) == "free"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/threads/runs",
        "/v1/threads/thread_1/runs",
        "/v1/threads/thread_1/runs/run_1/submit_tool_outputs",
        "/v1/chat/completions/batch",
        "/v1/unmoderations-x",
        "/v1/models/gpt2",
        "/hf-inference/models/gpt2",
        "/model/m/invoke-with-bidirectional-stream",
        "/v1/realtime",
        "/v1/xmessages",
        "/v1/chat/completionsx",
        "/",
        "",
    ],
)
def test_everything_else_is_unknown(path):
    assert endpoints.classify("POST", path) == "unknown"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/batches",
        "/v1/messages/batches",
        "/v1beta/models/gemini-2.5-pro:batchGenerateContent",
        "/v1/async/chat/completions",
        "/v1/realtime/client_secrets",
        "/v1/realtime/sessions",
        # Whatever a path looks like that climbs, it may lead anywhere.
        "/v1/files/../responses",
        "/v1/files/%2e%2e/responses",
        "/v1/chat/completions/..",
        "/v1/./messages",
        "/v1/messages/count_tokens/../../messages",
    ],
)
def test_what_is_answered_elsewhere_cannot_be_metered(path):
    assert endpoints.classify("POST", path) == "unmeterable"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "post", "BREW", "CONNECT"])
def test_an_unusual_method_is_no_way_out(method):
    assert endpoints.classify(method, "/v1/chat/completions") is dialect_called("openai-chat")
    assert endpoints.classify(method, "/v1/anything") == "unknown"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/messages?beta=true", "/v1/messages"),
        ("/v1/messages#x", "/v1/messages"),
        ("/v1/messages/", "/v1/messages"),
        ("/v1/messages;v=1", "/v1/messages"),
        ("/v1beta/models/gemini%3AgenerateContent", "/v1beta/models/gemini:generateContent"),
        ("/v1/chat%2Fcompletions", "/v1/chat/completions"),
        ("/v1/chat%3Fcompletions", "/v1/chat?completions"),
    ],
)
def test_a_path_is_read_as_a_server_reads_it(path, plain):
    assert endpoints.plain_path(path) == plain


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/v1beta/models/gemini-2.5-pro%3AstreamGenerateContent", "gemini-2.5-pro", True),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent/", "gemini-2.5-pro", True),
        ("/model/m/converse-stream/", "m", True),
        (f"/model/{ARN}/converse", ARN.replace("%3A", ":").replace("%2F", "/"), False),
        ("/model%2Fm%2Finvoke", "m", False),
        ("/openai/deployments/meu%20gpt/chat/completions", "meu gpt", False),
    ],
)
def test_no_spelling_of_a_path_hides_its_model(path, model, stream):
    # The model decides what is billed.
    dialect = endpoints.classify("POST", path)
    assert not isinstance(dialect, str)
    request = dialect.read_request(endpoints.plain_path(path), {}, 2)
    assert (request.model, request.stream) == (model, stream)


@pytest.mark.parametrize(
    ("method", "path", "identity"),
    [
        ("GET", "/v1/responses/resp_1", "resp_1"),
        ("GET", "/v1/responses/resp_1/?include=x", "resp_1"),
        ("POST", "/v1/responses/resp_1", None),
        ("GET", "/v1/responses", None),
        ("GET", "/v1/models", None),
    ],
)
def test_a_poll_names_the_answer(method, path, identity):
    assert endpoints.polled(method, path) == identity


@pytest.mark.parametrize("dialect", ALL_DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_says_where_its_numbers_come_from(dialect):
    assert dialect.usage_at
    assert "IN" in dialect.formula
    assert "OUT" in dialect.formula
    assert dialect.source.startswith("https://")
