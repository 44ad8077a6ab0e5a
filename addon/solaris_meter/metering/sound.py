"""How long a sound is, where no provider says."""

import io

from tinytag import TinyTag

_PCM_BYTES_PER_MS = 48
"""16 bits, 24,000 times a second, one channel: OpenAI's `pcm` (https://platform.openai.com/docs/guides/text-to-speech)."""
_USUAL_BYTES_PER_MS = 6
"""48 kbit/s: speech as browsers and messengers record it."""
_MOST_BYTES_PER_MS = 40
"""320 kbit/s, the most that mp3, AAC and Opus are used with: a sound of so many bytes is at least so long …"""
_LEAST_BYTES_PER_MS = 0.5
"""… and with 4 kbit/s, less than the lowest in use, at most so long, whatever its header claims."""
_HEAD_BYTES = 512 * 1024
"""What is searched for the frames of an mp3: the rest is as long in proportion."""


def length_ms(data: bytes) -> int | None:
    """The length of a sound file in milliseconds (mp3, wav, ogg, opus, flac, m4a); None where it tells none.

    Headers are written by whoever sends the file, and streams are sent before their length is known: what they say is
    kept within what so many bytes can hold. May take a second: not for the event loop.
    """
    is_mp3 = data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")
    head = data[:_HEAD_BYTES] if is_mp3 else data
    try:
        tag = TinyTag.get(file_obj=io.BytesIO(head), tags=False)
    except Exception:  # what stands in a broken file is anything at all
        return None
    if data[:4] == b"RIFF" and tag.samplerate and tag.channels and tag.bitdepth:
        # Plain samples: the bytes that are there are the sound.
        return round(max(0, len(data) - 44) * 8000 / (tag.samplerate * tag.channels * tag.bitdepth)) or None
    if not tag.duration:
        return None
    told = tag.duration * 1000 * len(data) / max(1, len(head))
    least = len(data) / (_MOST_BYTES_PER_MS * (6 if data[:4] == b"fLaC" else 1))
    return round(min(max(told, least), len(data) / _LEAST_BYTES_PER_MS)) or None


def guess_ms(size: int) -> int:
    """How long a sound of so many bytes usually is, in milliseconds."""
    return size // _USUAL_BYTES_PER_MS


def pcm_ms(size: int) -> int:
    """The length of so many bytes of raw 24 kHz samples in milliseconds."""
    return size // _PCM_BYTES_PER_MS
