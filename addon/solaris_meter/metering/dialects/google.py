"""Google's Gemini API, and the same on Vertex AI.

Request and answer: https://ai.google.dev/api/generate-content. `usageMetadata` stands in every chunk of a stream and is
cumulative: the last one counts.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Dialect,
    Json,
    Message,
    Request,
    Said,
    dump,
    items,
    make_request,
    mapping,
    objects,
    remembers,
    said,
    texts,
    whole,
)
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_MODEL = re.compile(r"/(?:models|tunedModels|endpoints)/([^/:]+):[A-Za-z]+$")
_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "responseTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)
_MODALITIES = {"AUDIO": "audio", "IMAGE": "image"}
_DETAILS = {
    "input": ("promptTokensDetails", "toolUsePromptTokensDetails"),
    "output": ("candidatesTokensDetails", "responseTokensDetails"),
}


class Google(Dialect):
    """`:generateContent` and `:streamGenerateContent`, the latter as server-sent events or as one JSON array."""

    name = "google"
    conversation = Conversation(turns="contents", content="parts", assistant="model")
    paths = re.compile(r":(stream)?[gG]enerateContent$", re.IGNORECASE)
    usage_at = "`usageMetadata`, in every chunk of a stream"
    formula = (
        "IN = promptTokenCount + toolUsePromptTokenCount; OUT = candidatesTokenCount + thoughtsTokenCount,"
        " unless the candidates make up the total already"
    )
    source = "https://ai.google.dev/api/generate-content#UsageMetadata"
    streams_array = True

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        config = _config(body)
        return make_request(
            body,
            body_bytes,
            model=model_in(path),
            max_output=config.get("maxOutputTokens", config.get("max_output_tokens")),
            choices=config.get("candidateCount", config.get("candidate_count")),
            stream=":stream" in path,
            prompt=lambda: _prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        name = "generation_config" if "generation_config" in body else "generationConfig"
        config = {key: value for key, value in _config(body).items() if key != "max_output_tokens"}
        asked = whole(_config(body).get("maxOutputTokens", _config(body).get("max_output_tokens")))
        return body | {name: config | {"maxOutputTokens": min(tokens, asked or tokens)}}

    def read_event(self, answer: Answer, event: Json) -> None:
        for candidate in objects(event.get("candidates")):
            for part in objects(mapping(candidate.get("content")).get("parts")):
                _read_part(answer, part)
            if items(mapping(candidate.get("groundingMetadata")).get("webSearchQueries")):
                answer.terms["web_searches"] = 1  # a grounded prompt is paid, however many searches it took
        answer.named(event.get("modelVersion"))
        if isinstance(event.get("responseId"), str):
            answer.state["id"] = event["responseId"]
        usage = mapping(event.get("usageMetadata"))
        if usage:
            _read_usage(answer, usage)

    def is_last(self, event: Json) -> bool:
        candidates = list(objects(event.get("candidates")))
        return bool(candidates) and all(candidate.get("finishReason") for candidate in candidates)

    def read_body(self, answer: Answer, body: Json) -> None:
        self.read_event(answer, body)

    def message(self, request: Request, text: str) -> Message | None:
        chunk = {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
            "modelVersion": request.model,
            "responseId": "solaris",
        }
        return Message([said(chunk)], chunk)

    def takes_notice(self, body: Json) -> bool:
        form = _config(body).get("responseMimeType", "text/plain")
        return form == "text/plain" and (whole(_config(body).get("candidateCount")) or 1) == 1 and not _remembers(body)

    def closing(self, answer: Answer, event: Json) -> bool:
        candidates = list(objects(event.get("candidates")))
        if len(candidates) != 1 or candidates[0].get("finishReason") != "STOP":
            return False
        return bool(answer.text) and not answer.state.get("calls_tools")

    def notice(self, answer: Answer, event: Json, text: str) -> list[Said]:
        candidate = mapping(items(event.get("candidates"))[0])
        content = mapping(candidate.get("content"))
        parts = [*items(content.get("parts")), {"text": text}]
        last = candidate | {"content": {"role": "model"} | content | {"parts": parts}}
        return [said(event | {"candidates": [last]})]

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return {"error": {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        parts = [{"text": notice}] if notice else []
        chunk = {
            "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}],
            "usageMetadata": {
                "promptTokenCount": input_tokens,
                "candidatesTokenCount": output_tokens,
                "totalTokenCount": input_tokens + output_tokens,
            },
            "modelVersion": answer.terms.get("model", ""),
            "responseId": answer.state.get("id", "solaris"),
        }
        return [said(chunk)]


class GoogleEmbeddings(Dialect):
    """`:embedContent`, `:batchEmbedContents`, and `:predict` of Vertex AI: vectors, or pictures of Imagen."""

    name = "google-embeddings"
    limits_output = False
    paths = re.compile(r":(embedContent|batchEmbedContents|predict)$", re.IGNORECASE)
    usage_at = "none; on Vertex AI `embeddings.statistics.token_count` of each prediction, and later `usageMetadata`"
    formula = "IN = the sum of the counts, or the text counted; OUT = 0; Imagen: the pictures in `predictions`"
    source = "https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        pictures = whole(mapping(body.get("parameters")).get("sampleCount")) or 1 if "imagen" in path else 0
        return make_request(
            body,
            body_bytes,
            model=model_in(path),
            max_output=1,  # there is none to hold tokens for
            images=pictures,
            prompt=lambda: Prompt(messages=(), text="\n".join(_embedded(body))),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        self.read_body(answer, event)

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.ran = bool(body.get("embedding") or body.get("embeddings") or body.get("predictions"))
        pictures = 0
        for prediction in objects(body.get("predictions")):
            statistics = mapping(mapping(prediction.get("embeddings")).get("statistics"))
            if "token_count" in statistics:
                answer.input_tokens = (answer.input_tokens or 0) + (answer.number(statistics, "token_count") or 0)
            pictures += "bytesBase64Encoded" in prediction or "gcsUri" in prediction
        if pictures:
            answer.images, answer.input_tokens, answer.output_tokens = pictures, 0, 0
        usage = mapping(body.get("usageMetadata"))
        if usage:
            answer.input_tokens = answer.number(usage, "promptTokenCount", "totalTokenCount")

    def conclude(self, answer: Answer, request: Request) -> None:
        if answer.ran:
            answer.output_tokens = answer.output_tokens or 0

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return {"error": {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}}


def model_in(path: str) -> str | None:
    """The model in a path such as `/v1beta/models/gemini-2.5-pro:generateContent`."""
    found = _MODEL.search(path)
    return unquote(found[1]) if found else None


def _config(body: Json) -> Json:
    return mapping(body.get("generationConfig") or body.get("generation_config"))


def _remembers(body: Json) -> bool:
    """LibreChat's memory, whose tools stand one level deeper here."""
    declared = (tool.get("functionDeclarations") for tool in objects(body.get("tools")))
    return any(remembers({"tools": functions}) for functions in declared)


def _read_part(answer: Answer, part: Json) -> None:
    answer.wrote(part.get("text"))
    call = part.get("functionCall")
    if isinstance(call, dict):
        answer.state["calls_tools"] = True
        answer.wrote(call.get("name"))
        answer.wrote(dump(call.get("args")))
    answer.wrote(mapping(part.get("executableCode")).get("code"))
    answer.ran = answer.ran or "inlineData" in part


def _read_usage(answer: Answer, usage: Json) -> None:
    """Each chunk replaces what the ones before said; what it does not name stays."""
    counts: Json = answer.state.setdefault("counts", {})
    for name in _COUNTS:
        count = answer.number(usage, name)
        if count is not None:
            counts[name] = count
    if answer.refused_usage:
        answer.input_tokens = answer.output_tokens = None
        return
    if "promptTokenCount" not in counts:
        return
    answer.input_tokens = counts["promptTokenCount"] + counts.get("toolUsePromptTokenCount", 0)
    answer.cached_input_tokens = min(answer.input_tokens, counts.get("cachedContentTokenCount", 0))
    shown, thoughts = (counts.get(name) for name in ("candidatesTokenCount", "thoughtsTokenCount"))
    if shown is None:
        shown = counts.get("responseTokenCount")
    if shown is not None or thoughts is not None:  # the first chunks may tell the input alone
        folded = thoughts and answer.input_tokens + (shown or 0) == counts.get("totalTokenCount")
        answer.output_tokens = (shown or 0) + (0 if folded else thoughts or 0)
        answer.reasoning_tokens = min(answer.output_tokens, thoughts or 0)
    for side, names in _DETAILS.items():
        details = [detail for name in names for detail in objects(usage.get(name))]
        for modality, kind in _MODALITIES.items():
            parts = [whole(detail.get("tokenCount")) or 0 for detail in details if detail.get("modality") == modality]
            if parts:
                answer.terms[f"{kind}_{side}_tokens"] = sum(parts)
    if isinstance(usage.get("trafficType"), str):
        answer.terms["service_tier"] = usage["trafficType"]


def _prompt(body: Json) -> Prompt:
    """The request as chat completions would have it: the instruction, the contents, the functions, the schema."""
    messages: list[Json] = []
    system = "\n".join(texts(body.get("systemInstruction") or body.get("system_instruction"), "parts", "text"))
    if system:
        messages.append({"role": "system", "content": system})
    contents = body.get("contents")
    for content in [contents] if isinstance(contents, str) else items(contents):
        role = "assistant" if mapping(content).get("role") == "model" else "user"
        messages.append({"role": role, "content": "\n".join(_said(content))})
    tools = []
    for tool in objects(body.get("tools")):
        for function in objects(tool.get("functionDeclarations") or tool.get("function_declarations")):
            parameters = function.get("parameters") or function.get("parametersJsonSchema")
            described = {"name": str(function.get("name") or ""), "parameters": mapping(parameters)}
            described["description"] = str(function.get("description") or "")
            tools.append({"type": "function", "function": described})
    config = _config(body)
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    return Prompt(
        messages=tuple(messages),
        tools=tuple(tools),
        schema=dump(schema) if schema else "",
        attachments=count_attachments(body),
    )


def _said(content: object) -> Iterator[str]:
    for part in [content] if isinstance(content, str) else items(mapping(content).get("parts")):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                yield part["text"]
            for key in ("functionCall", "functionResponse", "executableCode", "codeExecutionResult"):
                if key in part:
                    yield dump(part[key])


def _embedded(body: Json) -> Iterator[str]:
    for request in [body, *objects(body.get("requests"))]:
        yield from texts(request.get("content"), "parts", "text")
    for instance in objects(body.get("instances")):
        yield from texts(instance.get("content") or instance.get("prompt") or instance.get("text"), "text")
