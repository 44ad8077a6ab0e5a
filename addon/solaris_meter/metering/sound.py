"""How long a sound is, where no provider says."""

import io

from tinytag import TinyTag

_PCM_BYTES_PER_MS = 48
"""16 bits, 24,000 times a second, one channel: OpenAI's `pcm` (https://platform.openai.com/docs/guides/text-to-speech)."""
_LONGEST_MS = 7 * 24 * 3600 * 1000


def length_ms(data: bytes) -> int | None:
    """The length of a sound file in milliseconds (mp3, wav, ogg, opus, flac, m4a); None where it is none."""
    try:
        seconds = TinyTag.get(file_obj=io.BytesIO(data), tags=False, duration=True).duration
    except Exception:  # what stands in a broken file is anything at all
        return None
    milliseconds = round(seconds * 1000) if seconds else 0
    return milliseconds if 0 < milliseconds <= _LONGEST_MS else None


def pcm_ms(data: bytes) -> int:
    """The length of raw 24 kHz samples in milliseconds."""
    return len(data) // _PCM_BYTES_PER_MS
