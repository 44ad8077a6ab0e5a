"""`docs/dialects.md`, made from what the dialects say of themselves: `python -m tests.dialect_table` writes it."""

from pathlib import Path

from solaris_meter.metering.dialects.dialect import Dialect
from solaris_meter.metering.endpoints import DIALECTS, GENERIC, REALTIME

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dialects.md"

SPOKEN_BY = {
    "cohere": "Cohere v1 and v2",
    "openai-chat": "OpenAI, Azure, Mistral, DeepSeek, Groq, xAI, OpenRouter, Moonshot, Together, Fireworks, Perplexity,"
    " Cerebras, Hugging Face, Writer, vLLM, Gemini's OpenAI surface",
    "openai-completions": "OpenAI, Azure, vLLM, Together, Writer, …",
    "openai-responses": "OpenAI, Azure",
    "anthropic": "Anthropic, Claude on Vertex AI",
    "google": "Gemini, Vertex AI",
    "google-embeddings": "Gemini, Vertex AI, Imagen",
    "bedrock-converse": "Amazon Bedrock",
    "bedrock-invoke": "Amazon Bedrock: Claude, Nova, Titan, Llama, Mistral, Cohere, AI21, imported models",
    "ollama": "Ollama",
    "embeddings": "OpenAI, Azure, Mistral, Voyage, Together, vLLM, …",
    "openai-images": "OpenAI, Azure",
    "openai-transcription": "OpenAI, Azure, Groq, …",
    "openai-speech": "OpenAI, Azure, …",
    "openai-realtime": "OpenAI, Azure (WebSocket)",
    "generic": "any other endpoint of a known host",
}
TESTED_WITH = {
    "cohere": "SDK cohere (Client, ClientV2)",
    "openai-chat": "SDKs openai and mistralai",
    "openai-completions": "SDK openai",
    "openai-responses": "SDK openai, background answers polled",
    "anthropic": "SDK anthropic, also on Vertex AI",
    "google": "SDK google-genai",
    "google-embeddings": "SDK google-genai",
    "bedrock-converse": "SDK boto3; the upstream verifies the signature",
    "bedrock-invoke": "SDK boto3; the upstream verifies the signature",
    "ollama": "SDK ollama",
    "embeddings": "SDKs openai and mistralai",
    "openai-images": "SDK openai",
    "openai-transcription": "SDK openai",
    "openai-speech": "SDK openai",
    "openai-realtime": "SDK openai (WebSocket)",
    "generic": "hand-made answers",
}

_HEAD = """\
# Dialects: where the usage is

Made from the code by `make docs`; a test keeps it so. IN is everything the model read, cached input included, OUT is
everything billed as output, hidden reasoning included; what providers call these differs. Where nothing is reported,
LiteLLM counts, and the event's basis says so. Every dialect is tested with hand-made answers, whole, cut and hostile,
and with:

| dialect | spoken by | usage is in | formula | tested with | source |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The page as it must be."""
    return _HEAD + "".join(_row(dialect) for dialect in (*DIALECTS, REALTIME, GENERIC))


def _row(dialect: Dialect) -> str:
    name = dialect.name
    cells = (
        f"`{name}`",
        SPOKEN_BY[name],
        dialect.usage_at,
        dialect.formula,
        TESTED_WITH[name],
        f"[docs]({dialect.source})",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
