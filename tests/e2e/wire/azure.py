"""OpenAI's models on Azure: the deployment stands in the path, and filters speak in between."""

import re
from dataclasses import replace

from tests.e2e.wire import openai
from tests.e2e.wire.answers import Answer, Request, not_found, sse

_DEPLOYMENT = re.compile(r"^/openai/deployments/([^/]+)/")
_PASSED = {"hate": {"filtered": False, "severity": "safe"}}


def answer(request: Request) -> Answer:
    found = _DEPLOYMENT.match(request.path)
    if found is None or not request.query.startswith("api-version="):
        return not_found(request)
    body = {"model": "gpt-5-mini-2025-08-07"} | request.body
    whole = openai.answer(replace(request, path=_DEPLOYMENT.sub("/v1/", request.path), body=body))
    if isinstance(whole.body, bytes):
        return whole
    filters = [{"prompt_index": 0, "content_filter_results": _PASSED}]
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": filters}
    before = sse([first]).body
    assert isinstance(before, list)
    return replace(whole, body=before + whole.body)
