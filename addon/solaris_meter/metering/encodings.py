"""Content encodings, undone piece by piece, for upstreams that compress although they were asked not to."""

import zlib
from collections.abc import Callable
from typing import cast

import brotli
import zstandard

Decode = Callable[[bytes], bytes]


def decoder(content_encoding: str) -> Decode | None:
    """A function that inflates consecutive pieces of a body; None for an encoding that cannot be undone.

    What it raises means that the body is not what its header says.
    """
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        return bytes
    if name in {"gzip", "x-gzip"}:
        return zlib.decompressobj(wbits=31).decompress
    if name == "deflate":
        return _deflate()
    if name == "br":
        return cast(Decode, brotli.Decompressor().process)
    if name == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress
    return None


def _deflate() -> Decode:
    """`deflate` is zlib by the standard and raw deflate by habit: the first two bytes tell."""
    inflate: Decode | None = None
    held = b""

    def decode(data: bytes) -> bytes:
        nonlocal inflate, held
        if inflate is None:
            held += data
            if len(held) < 2:
                return b""
            is_zlib = held[0] & 0x0F == 8 and (held[0] * 256 + held[1]) % 31 == 0
            inflate = zlib.decompressobj(wbits=15 if is_zlib else -15).decompress
            data, held = held, b""
        return inflate(data)

    return decode
