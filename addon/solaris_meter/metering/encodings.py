"""Content encodings, undone piece by piece, for upstreams that compress although they were asked not to."""

import zlib
from collections.abc import Callable
from typing import Protocol, cast

import brotli
import zstandard

Decode = Callable[[bytes], bytes]


def decoder(content_encoding: str) -> Decode | None:
    """A function that inflates consecutive pieces of a body; None for an encoding that cannot be undone.

    What it raises means that the body is not what its header says.
    """
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if len(names) > 1:
        outer, inner = decoder(names[-1]), decoder(",".join(names[:-1]))
        return None if outer is None or inner is None else lambda data: inner(outer(data))
    if not names:
        return bytes
    name = names[0]
    if name in {"gzip", "x-gzip"}:
        return _members(lambda: zlib.decompressobj(wbits=31))
    if name == "deflate":
        return _deflate()
    if name == "br":
        return cast(Decode, brotli.Decompressor().process)
    if name == "zstd":
        return _members(lambda: zstandard.ZstdDecompressor().decompressobj())
    return None


class _Decompressor(Protocol):
    """What zlib and zstandard agree on."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _members(new: Callable[[], _Decompressor]) -> Decode:
    """Both formats allow members that stand one after the other: each needs a decompressor of its own."""
    current = new()

    def decode(data: bytes) -> bytes:
        nonlocal current
        out = b""
        while data:
            if current.eof:
                current = new()
            out += current.decompress(data)
            data = current.unused_data if current.eof else b""
        return out

    return decode


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
