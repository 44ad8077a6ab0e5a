"""The `openai` package, unchanged, through the sidecar: every endpoint that runs a model, and those that run none."""

import base64
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.openai import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    HEARD_SECONDS,
    IMAGE,
    PICTURE,
    RESPONSE,
    SECONDS,
    SOUND,
    SPEECH,
    TRANSCRIPTION,
    VECTOR,
)

MESSAGES: Any = [{"role": "user", "content": "Há café?"}]


@pytest.fixture
def sdk(person: Person) -> Iterator[openai.OpenAI]:
    base_url = person.url("openai/v1")
    with openai.OpenAI(api_key="k", base_url=base_url, max_retries=0, default_headers=person.headers) as client:
        yield client


# ------------------------------------------------------------------------------------------------------------- chat


def test_chat(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)
    assert answer.choices[0].message.content == WHOLE_TEXT
    assert answer.usage is not None
    assert answer.usage.to_dict() == CHAT.wire
    person.pays(CHAT, "openai", "gpt-5-mini", endpoint="/openai/v1/chat/completions")


@pytest.mark.parametrize("asks", [True, False])
def test_chat_stream(sdk: openai.OpenAI, person: Person, asks: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asks else {}
    with sdk.chat.completions.create(model="gpt-5-mini", messages=MESSAGES, stream=True, **options) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == WHOLE_TEXT
    reported = [chunk.usage.to_dict() for chunk in chunks if chunk.usage]
    assert reported == ([CHAT.wire] if asks else [])
    person.pays(CHAT, "openai", "gpt-5-mini", stream=True)


def test_chat_stream_helper(sdk: openai.OpenAI, person: Person) -> None:
    with sdk.chat.completions.stream(model="gpt-5-mini", messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == WHOLE_TEXT
    person.pays(CHAT, "openai", "gpt-5-mini", stream=True)


def test_chat_through_the_forward_proxy(person: Person) -> None:
    http = openai.DefaultHttpxClient(proxy=person.url(""), verify=person.trust(), trust_env=False)
    with (
        openai.OpenAI(api_key="k", http_client=http, max_retries=0, default_headers=person.headers) as sdk,
        sdk.chat.completions.create(model="gpt-5-mini", messages=MESSAGES, stream=True) as stream,
    ):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == WHOLE_TEXT
    [arrival] = person.providers.requests
    assert arrival.headers["host"] == "api.openai.com"
    person.pays(CHAT, "openai", "gpt-5-mini", stream=True, endpoint="/v1/chat/completions")


@pytest.mark.parametrize("stream", [False, True])
def test_chat_on_azure(person: Person, stream: bool) -> None:
    with openai.AzureOpenAI(
        api_key="k",
        api_version="2024-10-21",
        azure_endpoint=person.url("azure"),
        max_retries=0,
        default_headers=person.headers,
    ) as sdk:
        answer: Any = sdk.chat.completions.create(model="minha-implantacao", messages=MESSAGES, stream=stream)
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        else:
            text = answer.choices[0].message.content
    assert text == WHOLE_TEXT
    person.pays(CHAT, "azure", "minha-implantacao", stream=stream)


def test_embedding_on_azure(person: Person) -> None:
    with openai.AzureOpenAI(
        api_key="k",
        api_version="2024-10-21",
        azure_endpoint=person.url("azure"),
        max_retries=0,
        default_headers=person.headers,
    ) as sdk:
        assert sdk.embeddings.create(model="vetores", input="um").data[0].embedding == [*VECTOR]
    person.pays(EMBEDDING, "azure", "vetores")


def test_completion(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.completions.create(model="gpt-3.5-turbo-instruct", prompt="Era uma vez")
    assert answer.choices[0].text == WHOLE_TEXT
    person.pays(COMPLETION, "openai", "gpt-3.5-turbo-instruct")


@pytest.mark.parametrize("asks", [True, False])
def test_completion_stream(sdk: openai.OpenAI, person: Person, asks: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asks else {}
    with sdk.completions.create(model="gpt-3.5-turbo-instruct", prompt="Era", stream=True, **options) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == WHOLE_TEXT
    assert len([chunk for chunk in chunks if chunk.usage]) == int(asks)
    person.pays(COMPLETION, "openai", "gpt-3.5-turbo-instruct", stream=True)


# --------------------------------------------------------------------------------------------------------- responses


def test_response(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.responses.create(model="gpt-5", input="Há café?")
    assert answer.output_text == WHOLE_TEXT
    person.pays(RESPONSE, "openai", "gpt-5")


def test_response_stream(sdk: openai.OpenAI, person: Person) -> None:
    with sdk.responses.create(model="gpt-5", input="Há café?", stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == WHOLE_TEXT
    person.pays(RESPONSE, "openai", "gpt-5", stream=True)


def test_response_stream_helper(sdk: openai.OpenAI, person: Person) -> None:
    with sdk.responses.stream(model="gpt-5", input="Há café?") as stream:
        final = stream.get_final_response()
    assert final.output_text == WHOLE_TEXT
    person.pays(RESPONSE, "openai", "gpt-5", stream=True)


def test_response_in_the_background_is_charged_once_however_often_it_is_polled(
    sdk: openai.OpenAI, person: Person
) -> None:
    started = sdk.responses.create(model="gpt-5", input="Há café?", background=True)
    assert (started.status, started.usage) == ("queued", None)
    assert sdk.responses.retrieve(started.id).status == "in_progress"
    assert person.events(running=1) == []
    for _ in range(3):
        polled = sdk.responses.retrieve(started.id)
        assert polled.output_text == WHOLE_TEXT
        assert polled.usage is not None
    person.pays(RESPONSE, "openai", "gpt-5")


# ------------------------------------------------------------------------------------------------- vectors, pictures


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embedding(sdk: openai.OpenAI, person: Person, encoding: Any) -> None:
    options = {"encoding_format": encoding} if encoding else {}
    answer = sdk.embeddings.create(model="text-embedding-3-small", input=["um", "dois"], **options)
    expected: Any = [*VECTOR] if encoding != "base64" else "AACAPgAAAL8AAAA+"
    assert [item.embedding for item in answer.data] == [expected] * 2
    person.pays(EMBEDDING, "openai", "text-embedding-3-small")


def test_image(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.images.generate(model="gpt-image-1", prompt="Um gato", size="1024x1024")
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "") == PICTURE
    person.pays(IMAGE, "openai", "gpt-image-1")


def test_image_stream(sdk: openai.OpenAI, person: Person) -> None:
    with sdk.images.generate(model="gpt-image-1", prompt="Um gato", stream=True, partial_images=1) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert all(base64.b64decode(event.b64_json) == PICTURE for event in events)
    person.pays(IMAGE, "openai", "gpt-image-1", stream=True)


def test_image_paid_by_the_piece(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.images.generate(model="dall-e-3", prompt="Um gato", n=2, size="1024x1024")
    assert answer.data is not None
    assert [item.url for item in answer.data] == ["http://127.0.0.1/a.png"] * 2
    [event] = person.events()
    assert (event["model"], event["images"], event["basis"]) == ("dall-e-3", 2, "reported")
    assert event["input_tokens"] == event["output_tokens"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_image_edit(sdk: openai.OpenAI, person: Person, stream: bool) -> None:
    original = b"\x89PNG\r\n\x1a\n the original \x00\r\n\xff"
    options: Any = {"stream": True} if stream else {}
    answer = sdk.images.edit(model="gpt-image-1", image=("a.png", original), prompt="Mais café", **options)
    pictures = [event.b64_json for event in answer] if stream else [answer.data[0].b64_json]
    assert [base64.b64decode(picture) for picture in pictures] == [PICTURE] * (1 + stream)
    assert person.providers.requests[-1].body["image"] == original
    person.pays(IMAGE, "openai", "gpt-image-1", stream=stream)


# ------------------------------------------------------------------------------------------------------------- sound


def test_transcription(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", SOUND))
    assert answer.text == WHOLE_TEXT
    assert person.providers.requests[-1].body["file"] == SOUND
    person.pays(TRANSCRIPTION, "openai", "gpt-4o-transcribe")


def test_transcription_stream(sdk: openai.OpenAI, person: Person) -> None:
    with sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", SOUND), stream=True) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == WHOLE_TEXT
    person.pays(TRANSCRIPTION, "openai", "gpt-4o-transcribe", stream=True)


@pytest.mark.parametrize("task", ["transcriptions", "translations"])
def test_sound_paid_by_its_length(sdk: openai.OpenAI, person: Person, task: str) -> None:
    resource: Any = getattr(sdk.audio, task)
    answer = resource.create(model="whisper-1", file=("a.wav", SOUND), response_format="verbose_json")
    assert (answer.text, answer.duration) == (WHOLE_TEXT, SECONDS)
    [event] = person.events()
    assert (event["model"], event["dialect"]) == ("whisper-1", "openai-transcription")
    assert (event["audio_seconds"], event["basis"]) == (HEARD_SECONDS, "reported")


def test_transcription_that_reports_nothing(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND), response_format="text")
    assert answer == f"{WHOLE_TEXT}\n"
    [event] = person.events()
    assert (event["model"], event["audio_seconds"], event["basis"]) == ("whisper-1", SECONDS, "counted")


def test_speech_that_reports_nothing(sdk: openai.OpenAI, person: Person) -> None:
    asked: Any = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Há café aqui.", "response_format": "wav"}
    with sdk.audio.speech.with_streaming_response.create(**asked) as answer:
        assert b"".join(answer.iter_bytes()) == SOUND
    [event] = person.events()
    assert (event["model"], event["audio_seconds"], event["basis"]) == ("gpt-4o-mini-tts", SECONDS, "counted")
    assert 3 <= event["input_tokens"] <= 12


def test_speech_as_events(sdk: openai.OpenAI, person: Person) -> None:
    answer = sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Há café.", stream_format="sse")
    assert "speech.audio.done" in answer.text
    person.pays(SPEECH, "openai", "gpt-4o-mini-tts", stream=True)


# -------------------------------------------------------------------------------------------------------------- free


def test_what_runs_no_model_is_free(sdk: openai.OpenAI, person: Person) -> None:
    assert [model.id for model in sdk.models.list()] == ["gpt-5"]
    assert not sdk.moderations.create(input="Há café?").results[0].flagged
    assert sdk.responses.input_tokens.count(model="gpt-5", input="Há café?").input_tokens == 4711
    person.pays_nothing()
