import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import cut, payload, pieces

from solaris_meter.metering import encodings

PLAIN = payload("openai_chat_stream_usage.sse")


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


COMPRESSED = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    " BR ": brotli.compress(PLAIN),
    "zstd": zstandard.ZstdCompressor().compress(PLAIN),
    "": PLAIN,
    "identity": PLAIN,
}


def inflate(name: str, chunks: list[bytes]) -> bytes:
    decode = encodings.decoder(name)
    assert decode is not None
    return b"".join(decode(chunk) for chunk in chunks)


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", COMPRESSED)
def test_an_encoding_is_undone_in_pieces_of_any_size(name, size):
    assert inflate(name, pieces(COMPRESSED[name], size)) == PLAIN


@pytest.mark.parametrize("size", [1, 2, 1_000_000])
def test_deflate_without_its_header_is_undone_as_well(size):
    assert inflate("deflate", pieces(raw_deflate(PLAIN), size)) == PLAIN


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_text_in_any_pieces_comes_out_of_deflate(data):
    plain = data.draw(st.binary(max_size=50))
    compressed = data.draw(st.sampled_from([zlib.compress, raw_deflate]))(plain)
    assert inflate("deflate", data.draw(cut(compressed))) == plain


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_what_the_server_flushed_is_there_at_once(name):
    flush = zlib.Z_SYNC_FLUSH if name == "gzip" else zstandard.COMPRESSOBJ_FLUSH_BLOCK
    compressor = zlib.compressobj(wbits=31) if name == "gzip" else zstandard.ZstdCompressor().compressobj()
    decode = encodings.decoder(name)
    assert decode is not None
    for event in (b"data: a\n\n", b"data: b\n\n"):
        assert decode(compressor.compress(event) + compressor.flush(flush)) == event


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_that_stand_one_after_the_other_are_all_undone(name):
    # A server may end a member with each flush: gzip (RFC 1952, 2.2) and zstd (RFC 8878, 3.1) are made of several.
    compress = gzip.compress if name == "gzip" else zstandard.ZstdCompressor().compress
    members = [compress(b"data: a\n\n"), compress(b"data: b\n\n")]
    assert inflate(name, members) == b"data: a\n\ndata: b\n\n"
    assert inflate(name, [b"".join(members)]) == b"data: a\n\ndata: b\n\n"


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_several_encodings_are_undone_last_one_first(size):
    twice = brotli.compress(gzip.compress(PLAIN))
    assert inflate("gzip, identity, br", pieces(twice, size)) == PLAIN


@pytest.mark.parametrize("name", ["compress", "gzip, aws-chunked", "aws-chunked", "*"])
def test_an_unknown_encoding_is_told(name):
    assert encodings.decoder(name) is None


@pytest.mark.parametrize("name", ["gzip", "br", "zstd", "deflate"])
def test_a_body_that_is_not_what_its_header_says_raises(name):
    decode = encodings.decoder(name)
    assert decode is not None
    with pytest.raises(Exception, match=r".+"):
        decode(b"\xffdata: no compression at all\n\n" * 10)
