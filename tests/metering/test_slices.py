from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solaris_meter.errors import Unavailable
from solaris_meter.metering import slices
from solaris_meter.metering.slices import Slices


class Purse:
    """Counts a byte as a token, and answers each extension when it is told to."""

    def __init__(self):
        self.texts: list[str] = []
        self.asked: list[tuple[int, Future[int]]] = []

    def count(self, text):
        self.texts.append(text)
        return len(text.encode())

    def extend(self, tokens):
        future: Future[int] = Future()
        self.asked.append((tokens, future))
        return future

    def answer(self, tokens):
        self.asked[-1][1].set_result(tokens)


class FullPurse(Purse):
    """Answers each extension at once from what is left."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def extend(self, tokens):
        future = super().extend(tokens)
        granted = min(tokens, self.left)
        self.left -= granted
        future.set_result(granted)
        return future


def slices_of(purse, granted, slice_tokens=100, *, strict=True):
    return Slices(granted, slice_tokens, strict=strict, count=purse.count, extend=purse.extend)


def test_text_is_not_tokenised_before_it_could_matter():
    purse = Purse()
    running = slices_of(purse, granted=1000)
    # 1000 tokens less half a slice: up to there the bytes alone say that more than half a slice is left.
    for _ in range(949):
        running.wrote("x")
    assert purse.texts == []
    running.wrote("x")
    assert purse.texts == ["x" * 950]
    assert [tokens for tokens, _ in purse.asked] == [100]


def test_fewer_tokens_than_bytes_put_the_next_look_off():
    def count(text):
        looks.append(len(text))
        return len(text) // 4

    looks: list[int] = []
    running = Slices(1000, 100, strict=False, count=count, extend=Purse().extend)
    for _ in range(2000):
        running.wrote("x")
    # 950 bytes were 237 tokens: 763 are left, and the next look is due after 713 bytes, and so on.
    assert looks[:2] == [950, 713]
    assert running.counted_tokens == sum(look // 4 for look in looks)


def test_a_slice_is_asked_for_when_half_of_one_is_left():
    purse = Purse()
    running = slices_of(purse, granted=100)
    running.wrote("x" * 49)
    assert purse.asked == []
    running.wrote("x")
    assert [tokens for tokens, _ in purse.asked] == [100]


def test_only_one_extension_is_asked_for_at_a_time():
    purse = Purse()
    running = slices_of(purse, granted=100)
    for _ in range(90):
        assert running.wrote("x") is False
    assert len(purse.asked) == 1
    purse.answer(100)
    running.wrote("x" * 9)
    assert len(purse.asked) == 1
    running.wrote("x" * 60)  # 159 of 200: the next half
    assert len(purse.asked) == 2


def test_bytes_are_counted_and_not_characters():
    purse = Purse()
    running = slices_of(purse, granted=100)
    running.wrote("ã" * 25)
    assert len(purse.asked) == 1


def test_strict_ends_when_the_last_token_is_used_and_nothing_is_left():
    purse = FullPurse(left=0)
    running = slices_of(purse, granted=100)
    assert running.wrote("x" * 99) is False
    assert running.wrote("x") is True
    assert running.counted_tokens == 100


def test_strict_uses_up_partial_grants_before_it_ends():
    purse = FullPurse(left=37)
    running = slices_of(purse, granted=100)
    written = 0
    while not running.wrote("x"):
        written += 1
        assert written < 1000
    assert written + 1 == 137
    assert purse.left == 0


def test_strict_waits_for_a_grant_that_is_on_its_way(monkeypatch):
    purse = Purse()
    running = slices_of(purse, granted=100)
    running.wrote("x" * 60)
    original = Future.result
    # The ledger answers while the answer waits for it.
    monkeypatch.setattr(Future, "result", lambda self, timeout=None: (purse.answer(100), original(self, timeout))[1])
    assert running.wrote("x" * 60) is False


def test_strict_ends_where_the_ledger_does_not_answer_in_time(monkeypatch):
    monkeypatch.setattr(slices, "EXTENSION_TIMEOUT_S", 0.01)
    running = slices_of(Purse(), granted=100)
    assert running.wrote("x" * 100) is True


def test_strict_ends_where_the_ledger_is_down():
    def fail(tokens):
        asked.append(tokens)
        future: Future[int] = Future()
        future.set_exception(Unavailable("the disk is gone"))
        return future

    asked: list[int] = []
    running = Slices(100, 100, strict=True, count=len, extend=fail)
    assert running.wrote("x" * 60) is False
    assert running.wrote("x" * 40) is True
    assert len(asked) > 1  # what failed once is tried again before an answer is ended


def test_a_piece_larger_than_a_slice_does_not_end_an_answer_that_can_be_paid():
    # One network read may bring thousands of tokens, and the account holds a million.
    purse = FullPurse(left=1_000_000)
    running = slices_of(purse, granted=100)
    assert running.wrote("x" * 450) is False
    assert running.wrote("x" * 10_000) is False


@pytest.mark.parametrize("left", [0, 1, 250])
def test_soft_never_ends(left):
    purse = FullPurse(left)
    running = slices_of(purse, granted=100, strict=False)
    assert not any(running.wrote("x" * 30) for _ in range(100))
    assert purse.left == 0


def test_soft_does_not_wait_for_the_ledger():
    purse = Purse()  # never answers: waiting would take EXTENSION_TIMEOUT_S each time
    running = slices_of(purse, granted=100, strict=False)
    assert not any(running.wrote("x" * 30) for _ in range(100))
    assert len(purse.asked) == 1


def test_an_overdrawn_answer_is_counted_a_slice_at_a_time():
    purse = FullPurse(left=0)
    running = slices_of(purse, granted=10, strict=False)
    for _ in range(1000):
        running.wrote("x")
    # Up to 10 bytes singly at most, then a slice of 100 bytes for each look.
    assert len(purse.texts) <= 10 + 10


def test_lone_surrogates_do_not_stop_it():
    assert slices_of(FullPurse(left=0), granted=100).wrote("\ud83d") is False


@settings(deadline=None, max_examples=200)
@given(
    granted=st.integers(0, 60),
    slice_tokens=st.integers(1, 30),
    left=st.integers(0, 90),
    texts=st.lists(st.text(alphabet="xã", min_size=1, max_size=12), max_size=60),
)
def test_strict_ends_with_the_first_piece_that_uses_up_everything(granted, slice_tokens, left, texts):
    running = slices_of(FullPurse(left), granted, slice_tokens)
    written = 0
    for text in texts:
        written += len(text.encode())
        ended = running.wrote(text)
        assert ended == (written >= granted + left)
        if ended:
            break
