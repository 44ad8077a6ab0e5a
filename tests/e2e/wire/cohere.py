"""Cohere, v1 and v2: what is billed stands beside the counts that include the template."""

from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, lines, not_found, sse

CHAT = Bill(
    {
        "billed_units": {"input_tokens": 5, "output_tokens": 418},
        "tokens": {"input_tokens": 71, "output_tokens": 420},
    },
    input=5,
    output=418,
)
EMBEDDING = Bill({"billed_units": {"input_tokens": 13}}, input=13)
VECTOR = [0.25, -0.5, 0.125]

_VERSION = {"api_version": {"version": "1"}}


def answer(request: Request) -> Answer:
    if request.method == "GET":
        return document({"models": [{"name": "command-a-03-2025", "endpoints": ["chat"]}]})
    handler = {
        "/v1/chat": _chat_v1,
        "/v2/chat": _chat_v2,
        "/v1/embed": _embed_v1,
        "/v2/embed": _embed_v2,
        "/v1/rerank": _rerank,
        "/v2/rerank": _rerank,
        "/v1/tokenize": lambda body: document({"tokens": [1, 2, 3], "token_strings": ["a", "b", "c"], "meta": {}}),
    }.get(request.path)
    return handler(request.body) if handler else not_found(request)


def _chat_v1(body: Any) -> Answer:
    whole = {
        "response_id": "r1",
        "generation_id": "g1",
        "text": WHOLE_TEXT,
        "chat_history": [{"role": "USER", "message": "oi"}, {"role": "CHATBOT", "message": WHOLE_TEXT}],
        "finish_reason": "COMPLETE",
        "meta": _VERSION | CHAT.wire,
    }
    if not body.get("stream"):
        return document(whole)
    start = {"is_finished": False, "event_type": "stream-start", "generation_id": "g1"}
    deltas = [{"is_finished": False, "event_type": "text-generation", "text": piece} for piece in TEXT]
    end = {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": whole}
    return lines([start, *deltas, end], "application/stream+json")


def _chat_v2(body: Any) -> Answer:
    if not body.get("stream"):
        message = {"role": "assistant", "content": [{"type": "text", "text": WHOLE_TEXT}]}
        return document({"id": "c1", "finish_reason": "COMPLETE", "message": message, "usage": CHAT.wire})

    def content(value: Any) -> Any:
        return {"index": 0, "delta": {"message": {"content": value}}}

    return sse(
        [
            {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start"} | content({"type": "text", "text": ""}),
            *({"type": "content-delta"} | content({"text": piece}) for piece in TEXT),
            {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": CHAT.wire}},
        ],
        named=True,
        done=True,
    )


def _embed_v1(body: Any) -> Answer:
    texts = body["texts"]
    vectors = [VECTOR for _ in texts]
    meta = _VERSION | EMBEDDING.wire
    if body.get("embedding_types"):
        by_type = {"response_type": "embeddings_by_type", "embeddings": {"float": vectors}}
        return document({"id": "e1", "texts": texts, "meta": meta} | by_type)
    floats = {"response_type": "embeddings_floats", "embeddings": vectors}
    return document({"id": "e1", "texts": texts, "meta": meta} | floats)


def _embed_v2(body: Any) -> Answer:
    embeddings = {"float": [VECTOR for _ in body["texts"]]}
    return document({"id": "e1", "embeddings": embeddings, "texts": body["texts"], "meta": _VERSION | EMBEDDING.wire})


def _rerank(body: Any) -> Answer:
    results = [{"index": index, "relevance_score": 0.9 - index / 10} for index, _ in enumerate(body["documents"])]
    return document({"id": "r1", "results": results, "meta": _VERSION | {"billed_units": {"search_units": 1}}})
