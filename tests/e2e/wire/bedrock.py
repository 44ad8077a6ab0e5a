"""Amazon Bedrock: converse and invoke, streamed as AWS event streams.

Whoever signed a request wrongly gets a 403; an API key (`Bearer …`) is the other way in.
"""

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import Any
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.e2e.wire import anthropic
from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, not_found

REGION = "us-east-1"
HOST = f"bedrock-runtime.{REGION}.amazonaws.com"
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
API_KEY = "bedrock-api-key-0123"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS's own example

CONVERSE = Bill(
    {
        "inputTokens": 125,
        "outputTokens": 61,
        "totalTokens": 10186,
        "cacheReadInputTokens": 8000,
        "cacheWriteInputTokens": 2000,
    },
    input=125 + 8000 + 2000,
    cached=8000,
    cache_write=2000,
    output=61,
)
TITAN = Bill({"inputTextTokenCount": 12}, input=12)
VECTOR = [0.25, -0.5, 0.125]


def answer(request: Request) -> Answer:
    if not _is_signed_rightly(request):
        reason = "The request signature we calculated does not match the signature you provided."
        return Answer(
            json.dumps({"message": reason}).encode(),
            status=403,
            headers={"x-amzn-errortype": "InvalidSignatureException"},
        )
    _, _, model, verb = unquote(request.path.replace("%2F", "\0")).split("/")
    model = model.replace("\0", "/")
    match verb:
        case "converse":
            message = {"role": "assistant", "content": [{"text": WHOLE_TEXT}]}
            about = {"stopReason": "end_turn", "metrics": {"latencyMs": 551}, "usage": CONVERSE.wire}
            return document({"output": {"message": message}} | about)
        case "converse-stream":
            return _frames(_converse_events())
        case "invoke" if "titan-embed" in model:
            return _invoked({"embedding": VECTOR} | TITAN.wire, TITAN)
        case "invoke":
            return _invoked(anthropic.message(model), anthropic.MESSAGE)
        case "invoke-with-response-stream":
            return _frames(_invoke_events(model))
        case "count-tokens":
            return document({"inputTokens": 4711})
        case _:
            return not_found(request)


def _invoked(body: Any, bill: Bill) -> Answer:
    counts = {"input": bill.input - bill.cached - bill.cache_write, "output": bill.output}
    if bill.cached:
        counts |= {"cache-read-input": bill.cached, "cache-write-input": bill.cache_write}
    headers = {f"x-amzn-bedrock-{side}-token-count": str(count) for side, count in counts.items()}
    return Answer(json.dumps(body, ensure_ascii=False).encode(), headers=headers)


def _converse_events() -> list[tuple[str, Any]]:
    return [
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in TEXT),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": CONVERSE.wire, "metrics": {"latencyMs": 719}}),
    ]


def _invoke_events(model: str) -> list[tuple[str, Any]]:
    events = anthropic.stream_events(model)
    metrics = {"inputTokenCount": 10682, "outputTokenCount": 517, "invocationLatency": 900, "firstByteLatency": 300}
    metrics |= {"cacheReadInputTokenCount": 18000, "cacheWriteInputTokenCount": 1200}
    events[-1] |= {"amazon-bedrock-invocationMetrics": metrics}
    return [("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}) for event in events]


def _frames(events: list[tuple[str, Any]]) -> Answer:
    return Answer([_frame(name, event) for name, event in events], "application/vnd.amazon.eventstream")


def _frame(event_type: str, event: Any) -> bytes:
    """One message of an AWS event stream: lengths and their checksum, headers, payload, checksum of it all."""
    named = {":event-type": event_type, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    payload = json.dumps(event | {"p": "abcdefgh"}, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _is_signed_rightly(request: Request) -> bool:
    """Sign again what arrived, as botocore signs, and compare."""
    if request.headers.get("authorization") == f"Bearer {API_KEY}":
        return True
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return False
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    _, _, region, service, _ = fields["Credential"].split("/")
    signed_names = fields["SignedHeaders"].split(";")
    if "host" not in signed_names or any(name not in request.headers for name in signed_names):
        return False
    body_hash = request.headers.get("x-amz-content-sha256")
    if body_hash and body_hash != hashlib.sha256(request.raw).hexdigest():
        return False
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), service, region)
    url = f"https://{request.headers['host']}{request.path}" + (f"?{request.query}" if request.query else "")
    again = AWSRequest(
        method=request.method,
        url=url,
        headers={name: request.headers[name] for name in signed_names},
        data=request.raw,
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    to_sign = signer.string_to_sign(again, signer.canonical_request(again))
    return hmac.compare_digest(signer.signature(to_sign, again), fields["Signature"])
