import io
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solaris_meter.metering import sound


def wav(frames: int, rate: int, *, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(frames * channels * width))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "length_ms"),
    [
        (wav(8000, 8000), 1000),
        (wav(12_345, 44_100, channels=2), 280),
        (wav(24_000 * 61, 24_000, width=1), 61_000),
    ],
)
def test_a_wav_has_its_length(data, length_ms):
    assert sound.length_ms(data) == length_ms


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no sound at all",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"ID3\x04",
        b"OggS",
        b"fLaC",
        bytes(1000),
    ],
)
def test_what_is_no_sound_has_none(data):
    assert sound.length_ms(data) is None


def test_an_absurd_length_is_none():
    # One sample a second, for three years.
    head = bytearray(wav(1, 1))
    head[40:44] = (2 * 10**8).to_bytes(4, "little")
    assert sound.length_ms(bytes(head)) in (None, 1000)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_broken_file_has_a_possible_length_or_none(data):
    raw = bytearray(wav(80, 8000))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, 43))] = data.draw(st.integers(0, 255))
    length = sound.length_ms(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert length is None or (type(length) is int and 0 <= length <= 7 * 24 * 3600 * 1000)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([b"", b"ID3\x04\x00", b"\xff\xfb\x90", b"OggS\x00", b"fLaC\x00", b"\x00\x00\x00 ftypM4A "]),
    st.binary(max_size=200),
)
def test_any_bytes_have_a_possible_length_or_none(magic, data):
    length = sound.length_ms(magic + data)
    assert length is None or 0 <= length <= 7 * 24 * 3600 * 1000


def test_raw_samples_are_24_of_16_bits_a_millisecond():
    assert [sound.pcm_ms(count) for count in (48_000, 48, 47, 0)] == [1000, 1, 0, 0]
