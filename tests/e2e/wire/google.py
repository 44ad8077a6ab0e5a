"""Gemini, on generativelanguage.googleapis.com and on Vertex."""

import base64
from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, not_found, sse

GENERATED = Bill(
    {
        "promptTokenCount": 9000,
        "cachedContentTokenCount": 8000,
        "candidatesTokenCount": 250,
        "thoughtsTokenCount": 600,
        "toolUsePromptTokenCount": 37,
        "totalTokenCount": 9887,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 8742},
            {"modality": "IMAGE", "tokenCount": 258},
        ],
    },
    input=9037,
    cached=8000,
    output=850,
    reasoning=600,
)
STREAMED = Bill(
    {
        "promptTokenCount": 40,
        "candidatesTokenCount": 11,
        "thoughtsTokenCount": 100,
        "totalTokenCount": 151,
    },
    input=40,
    output=111,
    reasoning=100,
)
VERTEX_EMBEDDING = Bill({"token_count": 9, "truncated": False}, input=9)
VECTOR = [0.25, -0.5, 0.125]
PICTURE = b"\x89PNG\r\n\x1a\n a picture"


def answer(request: Request) -> Answer:
    *_, last = request.path.split("/")
    if request.method == "GET":
        return document({"models": [{"name": "models/gemini-2.5-pro", "displayName": "Gemini"}]})
    model, _, verb = last.replace("%3A", ":").partition(":")
    match verb:
        case "generateContent":
            return document(_generated(model, WHOLE_TEXT, GENERATED.wire, "STOP"))
        case "streamGenerateContent":
            return _stream(request, model)
        case "countTokens":
            return document({"totalTokens": 4711})
        case "embedContent":
            return document({"embedding": {"values": VECTOR}})
        case "batchEmbedContents":
            return document({"embeddings": [{"values": VECTOR} for _ in request.body["requests"]]})
        case "predict" if model.startswith("imagen"):
            picture = {"mimeType": "image/png", "bytesBase64Encoded": base64.b64encode(PICTURE).decode()}
            return document({"predictions": [picture] * request.body["parameters"]["sampleCount"]})
        case "predict":
            embeddings = {"values": VECTOR, "statistics": VERTEX_EMBEDDING.wire}
            return document({"predictions": [{"embeddings": embeddings}], "metadata": {"billableCharacterCount": 31}})
        case _:
            return not_found(request)


def _generated(model: str, text: str, usage: Any, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r1"}


def _stream(request: Request, model: str) -> Answer:
    """Every chunk reports all that there was until then; one array of chunks where nobody asked for SSE."""
    chunks = []
    for number, piece in enumerate(TEXT, 1):
        usage = {"promptTokenCount": 40, "thoughtsTokenCount": 100, "totalTokenCount": 140 + number}
        usage |= {"candidatesTokenCount": number} if number > 1 else {}
        chunks.append(_generated(model, piece, usage))
    chunks.append(_generated(model, "", STREAMED.wire, "STOP"))
    if "alt=sse" in request.query:
        return sse(chunks, end="\r\n")
    return document(chunks)
