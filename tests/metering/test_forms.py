import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solaris_meter.metering import forms


def sent(fields=None, files=None):
    """A form as httpx sends it, which the SDKs are built on."""
    request = httpx.Request("POST", "https://a.example", data=fields, files=files or {"none": (None, "")})
    return request.headers["content-type"], request.read()


@pytest.mark.parametrize(
    ("content_type", "is_form"),
    [
        ("multipart/form-data; boundary=x", True),
        (" Multipart/Form-Data;boundary=x", True),
        ("multipart/form-data", True),
        ("multipart/mixed; boundary=x", False),
        ("application/x-www-form-urlencoded", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_form_is_told_by_its_media_type(content_type, is_form):
    assert forms.is_form(content_type) is is_form


def test_fields_are_texts_and_files_are_bytes():
    sound = bytes(range(256)) * 100
    content_type, raw = sent(
        {"model": "whisper-1", "prompt": "São João", "stream": "true"},
        {"file": ("fala.mp3", sound, "audio/mpeg")},
    )
    assert forms.read(content_type, raw) == {
        "model": "whisper-1",
        "prompt": "São João",
        "stream": "true",
        "file": sound,
    }


def test_a_file_may_be_empty():
    assert forms.read(*sent(files={"file": ("a.wav", b"", "audio/wav")})) == {"file": b""}


def test_of_several_fields_of_one_name_the_last_counts():
    content_type, raw = sent({"timestamp_granularities[]": ["word", "segment"]})
    assert forms.read(content_type, raw)["timestamp_granularities[]"] == "segment"


def test_a_text_that_is_no_unicode_is_read_as_far_as_it_is():
    raw = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nol\xe9\r\n--b--\r\n'
    assert forms.read("multipart/form-data; boundary=b", raw) == {"model": "ol\ufffd"}


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text("abcé_[]", min_size=1, max_size=8), st.text(st.characters(exclude_categories=["Cs"])), max_size=4
    ),
    st.binary(max_size=200),
)
def test_any_fields_and_any_file_come_out_again(fields, data):
    fields.pop("file", None)
    read = forms.read(*sent(fields, {"file": ("a", data, "audio/wav")}))
    assert read == fields | {"file": data}


CONTENT_TYPE, RAW = sent({"model": "whisper-1"}, {"file": ("a.wav", b"RIFF", "audio/wav")})


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x=y"]
)
def test_a_form_without_boundary_is_none(content_type):
    with pytest.raises(ValueError, match="boundary"):
        forms.read(content_type, RAW)


@pytest.mark.parametrize(
    "raw",
    [
        RAW[:40],
        RAW[:-10],
        RAW.replace(b"form-data;", b"attachment;"),
        b"",
        b"{}",
        RAW.replace(b"--" + CONTENT_TYPE.partition("=")[2].encode(), b"--other"),
        b"".join(b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nx\r\n' % number for number in range(300)),
    ],
    ids=["begun", "not ended", "no form data", "nothing", "json", "other boundary", "too many"],
)
def test_a_broken_form_is_none(raw):
    content_type = "multipart/form-data; boundary=b" if raw.startswith(b"--b\r") else CONTENT_TYPE
    with pytest.raises(ValueError, match=r"form|boundary"):
        forms.read(content_type, raw)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_form_that_was_tampered_with_is_read_or_refused(data):
    raw = bytearray(RAW)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = forms.read(CONTENT_TYPE, bytes(raw))
    except ValueError:
        return
    assert all(isinstance(value, str | bytes) for value in read.values())


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=30), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(boundary, raw):
    for body in (raw, b"--x\r\n" + raw):
        try:
            assert isinstance(forms.read(f"multipart/form-data; boundary={boundary or 'x'}", body), dict)
        except ValueError:
            continue
