"""Rates: exact to the token, the most specific pattern first, and a history that tells what was in force when."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.support import NOON, Books

from solaris_meter.errors import AmountError, LedgerError
from solaris_meter.ledger import rates
from solaris_meter.ledger.rates import KINDS, MAX_MICRO, ONE, Rates, format_rate, parse_rate
from solaris_meter.models import Usage

micros = st.one_of(st.sampled_from([0, 1, 100_000, ONE, 15 * ONE, MAX_MICRO]), st.integers(0, MAX_MICRO))
some_rates = st.builds(Rates, *[micros for _ in KINDS])
counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    counts,
    counts,
    st.just("reported"),
    counts,
    counts,
    counts,
    images=st.integers(0, 1000),
    audio_ms=st.integers(0, 10**8),
)


def exact(priced, usage):
    """The price as a fraction, from the definition."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    parts = [
        (usage.input_tokens - cached - written, priced.input),
        (cached, priced.cached_input),
        (written, priced.cache_write),
        (usage.output_tokens, priced.output),
        (usage.images, priced.image),
        (Fraction(usage.audio_ms, 1000), priced.second),
    ]
    return sum((Fraction(units) * micro / ONE for units, micro in parts), Fraction(0))


# arithmetic


@given(some_rates, usages)
def test_what_is_billed_is_the_exact_price_rounded_up_once(priced, usage):
    assert 0 <= priced.billed(usage) - exact(priced, usage) < 1
    assert type(priced.billed(usage)) is int


@given(usages)
def test_by_default_a_token_a_picture_and_a_second_cost_one(usage):
    assert Rates().billed(usage) == usage.total_tokens + usage.images - (-usage.audio_ms // 1000)


@given(some_rates, usages)
def test_an_input_and_an_output_hold_at_least_what_they_cost(priced, usage):
    held = priced.billed_input(usage.input_tokens, usage.images, usage.audio_ms)
    assert priced.billed(usage) <= held + priced.billed_output(usage.output_tokens)


@given(some_rates, usages, usages)
def test_two_calls_never_cost_less_than_one_of_both(priced, one, two):
    plain = [Usage(usage.input_tokens, usage.output_tokens, "reported") for usage in (one, two)]
    both = Usage(one.input_tokens + two.input_tokens, one.output_tokens + two.output_tokens, "reported")
    assert 0 <= sum(map(priced.billed, plain)) - priced.billed(both) <= 1


@given(some_rates, st.integers(0, 10**9), counts)
def test_a_hold_pays_for_the_output_it_is_said_to_and_for_no_more(priced, held, wish):
    paid = priced.output_for(held, wish)
    if priced.output == 0:
        assert paid == wish
    else:
        assert priced.billed_output(paid) <= held < exact(priced, Usage(0, paid + 1, "reported"))


def test_a_debt_pays_for_nothing():
    assert Rates().output_for(-5, 100) == 0


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        (Usage(1, 0, "reported"), 1),  # 0.1 of a token is a token
        (Usage(10, 0, "reported"), 1),
        (Usage(11, 0, "reported"), 2),
        (Usage(5, 1, "reported"), 16),  # 15.5: rounded once, not once for each kind
        (Usage(100, 0, "reported", cached_input_tokens=100), 1),
        (Usage(100, 0, "reported", cached_input_tokens=1000), 1),  # no more of a whole than the whole
        (Usage(100, 0, "reported", cached_input_tokens=60, cache_write_tokens=60), 81),
        (Usage(0, 0, "reported", images=3), 12),
        (Usage(0, 0, "reported", audio_ms=1), 1),
        (Usage(0, 0, "reported", audio_ms=1500), 1),
        (Usage(5, 0, "reported", audio_ms=750), 1),
        (Usage(0, 0, "reported"), 0),
    ],
)
def test_what_some_calls_cost(usage, billed):
    priced = Rates(100_000, 10_000, 2 * ONE, 15 * ONE, 4 * ONE, 666_666)
    assert priced.billed(usage) == billed


def test_cached_input_costs_what_input_costs_unless_it_is_named():
    assert Rates.of({}) == Rates()
    assert Rates.of({"input": 15 * ONE}) == Rates(input=15 * ONE, cached_input=15 * ONE, cache_write=15 * ONE)
    assert Rates.of({"input": 15 * ONE, "cache_write": 0}) == Rates(15 * ONE, 15 * ONE, 0)
    assert Rates.of({"cached_input": 0}) == Rates(cached_input=0)


# as text


@given(some_rates)
def test_rates_come_back_as_they_were_kept(priced):
    assert Rates.decode(priced.encode()) == priced


@pytest.mark.parametrize(
    ("priced", "text"),
    [
        (Rates(), None),
        (Rates(output=0), '{"output":0}'),
        (Rates.of({"input": 15 * ONE}), '{"input":15000000}'),
        (Rates(input=15 * ONE), '{"cache_write":1000000,"cached_input":1000000,"input":15000000}'),
    ],
)
def test_only_what_is_not_the_default_is_kept(priced, text):
    assert priced.encode() == text


@pytest.mark.parametrize("text", ["", "x", "[]", "1", '{"input":-1}', '{"input":1.5}', '{"input":true}', '{"in":1}'])
def test_what_is_no_rates_is_not_read_as_some(text):
    with pytest.raises(ValueError, match=r"."):
        Rates.decode(text)


@pytest.mark.parametrize(
    ("text", "micro", "shown"),
    [
        ("1", ONE, "1"),
        ("15", 15 * ONE, "15"),
        ("0", 0, "0"),
        ("0.1", 100_000, "0.1"),
        ("0.10", 100_000, "0.1"),
        ("100", 100 * ONE, "100"),
        ("0.000001", 1, "0.000001"),
        (" 2.5 ", 2_500_000, "2.5"),
        ("100000000", MAX_MICRO, "100000000"),
    ],
)
def test_a_rate_is_read_and_written(text, micro, shown):
    assert parse_rate(text) == micro
    assert format_rate(micro) == shown


@given(st.integers(0, MAX_MICRO))
def test_every_rate_is_read_as_it_is_written(micro):
    assert parse_rate(format_rate(micro)) == micro


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", ".5", "1.", "1e3", "0,1", "1_000", "0.0000001", "inf", "nan", "١", "1/2", "100000000.1"]
)
def test_what_is_no_rate_is_refused_with_how_to_write_one(text):
    with pytest.raises(AmountError, match=r"is not a rate: write .* 15 or 0\.1|the highest rate"):
        parse_rate(text)


# rules


def output(books, model, provider="openai", at=NOON):
    """The output rate of a model, as people write it."""
    return format_rate(rates.resolve(books.tx, provider, model, at).output)


def test_without_rules_everything_costs_one(books):
    assert rates.resolve(books.tx, "openai", "gpt-4o", NOON) == Rates()


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("gpt-4o", True),
        ("GPT-4o", True),
        (" gpt-4o ", True),
        ("gpt-4", False),
        ("gpt-4?", True),
        ("gpt-*", True),
        ("*", True),
        ("*4o", True),
        ("openai/gpt-4o", True),
        ("openai/*", True),
        ("OpenAI/GPT*", True),
        ("azure/*", False),
        ("gpt-4[o]", False),
        ("gpt.4o", False),
        ("?", False),
    ],
)
def test_a_pattern_is_a_glob_over_the_model_and_over_provider_and_model(books, pattern, matches):
    books.rate(pattern, output="15")
    assert output(books, "gpt-4o") == ("15" if matches else "1")
    assert output(books, "GPT-4O", "OPENAI") == ("15" if matches else "1")


@pytest.mark.parametrize("name", ["claude-opus-4[1m]", "a.b+c(d)|e^$", "{x}\\d", "modèle", "two\nlines"])
def test_a_name_with_odd_characters_is_itself(books, name):
    books.rate(name, output="15")
    assert (output(books, name), output(books, name + "x")) == ("15", "1")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("*", "gpt-*"),
        ("gpt-*", "gpt-4*"),
        ("gpt-4*", "gpt-4o"),
        ("gpt-4o*", "gpt-4o"),
        ("gpt-4*", "gpt-4?"),
        ("gpt-4o", "openai/gpt-*"),  # more characters are written out
        ("gpt-4o", "openai/gpt-4o"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_most_specific_pattern_counts_whenever_it_was_set(books, less, more, turned):
    for pattern, rate in sorted([(less, "2"), (more, "15")], reverse=turned):
        books.rate(pattern, output=rate)
    assert output(books, "gpt-4o") == "15"


def test_of_two_equally_specific_patterns_the_newer_counts(books):
    books.rate("gpt-4?", output="2")
    books.rate("gpt-?o", output="3")
    assert output(books, "gpt-4o") == "3"
    books.rate("gpt-4?", output="4")
    assert output(books, "gpt-4o") == "4"


def test_each_kind_has_its_own_most_specific_pattern(books):
    books.rate("*", input="2", cached_input="0.1", image="50")
    books.rate("gpt-4o", input="3", output="12")
    assert rates.resolve(books.tx, "openai", "gpt-4o", NOON) == Rates.of(
        {"input": 3 * ONE, "cached_input": 100_000, "output": 12 * ONE, "image": 50 * ONE}
    )
    assert rates.resolve(books.tx, "openai", "other", NOON).cache_write == 2 * ONE


def test_a_long_name_is_matched_in_time(books):
    # The caller writes the name: a pattern must not cost more the longer it is.
    books.rate("*a*a*a*a*a*a*b", output="15")
    assert output(books, "a" * 50_000) == "1"


def test_the_newest_rate_of_a_pattern_counts_from_its_time_on(books):
    books.rate("gpt-4o", NOON, output="2")
    books.rate("GPT-4O", NOON + 10, output="3")
    assert [output(books, "gpt-4o", at=NOON + step) for step in (-1, 0, 9, 10, 1000)] == ["1", "2", "2", "3", "3"]


def test_of_two_rates_at_the_same_time_the_later_line_counts(books):
    books.rate("gpt-4o", NOON, output="2")
    books.rate("gpt-4o", NOON, output="3")
    assert output(books, "gpt-4o") == "3"


def test_what_is_not_named_stays_as_it_is(books):
    books.rate("gpt-4o", NOON, input="2", output="3")
    books.rate("gpt-4o", NOON + 1, output="4")
    assert rates.resolve(books.tx, "openai", "gpt-4o", NOON + 1) == Rates.of({"input": 2 * ONE, "output": 4 * ONE})


def test_rates_that_another_process_set_count_from_the_next_call_on(place, books):
    assert output(books, "gpt-4o") == "1"
    other = Books(place)
    other.rate("gpt-4o", NOON, output="2")
    assert output(books, "gpt-4o") == "2"
    other.rate("gpt-4o", NOON, output="3")
    assert output(books, "gpt-4o") == "3"
    other.close()


def test_rates_that_were_never_committed_do_not_count(books):
    def fail(tx):
        rates.put(tx, "gpt-4o", {"output": 2 * ONE}, NOON)
        assert rates.resolve(tx, "openai", "gpt-4o", NOON).output == 2 * ONE
        raise RuntimeError

    with pytest.raises(RuntimeError):
        books.run(fail)
    books.rate("gpt-4o", output="3")
    assert output(books, "gpt-4o") == "3"


def test_many_names_are_resolved_and_not_all_remembered(books):
    books.rate("*7", output="2")
    assert [output(books, f"model-{number}") for number in range(3000)] == [
        "2" if number % 10 == 7 else "1" for number in range(3000)
    ]


def test_what_is_removed_is_what_the_next_pattern_says(books):
    books.rate("*", output="2")
    books.rate("gpt-4o", NOON, input="9", output="3")
    assert books.run(lambda tx: rates.remove(tx, "GPT-4o", NOON + 1)) == ("gpt-4o", ["input", "output"])
    assert [output(books, "gpt-4o", at=NOON + step) for step in (0, 1)] == ["3", "2"]
    assert [(line.pattern, line.kind, line.micro) for line in rates.history(books.tx)] == [
        ("*", "output", 2 * ONE),
        ("gpt-4o", "input", 9 * ONE),
        ("gpt-4o", "output", 3 * ONE),
        ("gpt-4o", "input", None),
        ("gpt-4o", "output", None),
    ]
    assert [line.at_ms for line in rates.history(books.tx, NOON + 1)] == [NOON + 1] * 2


def test_what_was_removed_can_be_set_again(books):
    books.rate("gpt-4o", NOON, output="3")
    books.run(lambda tx: rates.remove(tx, "gpt-4o", NOON))
    books.rate("gpt-4o", NOON, output="4")
    assert output(books, "gpt-4o") == "4"


def test_removing_what_is_not_there_names_what_is(books):
    with pytest.raises(LedgerError, match="no rates for 'gpt'; no rates are set"):
        books.run(lambda tx: rates.remove(tx, "gpt", NOON))
    books.rate("gpt-4o", output="3")
    books.rate("claude*", output="3")
    books.rate("gone", output="3")
    books.run(lambda tx: rates.remove(tx, "gone", NOON))
    before = books.dump()
    with pytest.raises(LedgerError, match=r"no rates for 'gone'; there are rates for claude\*, gpt-4o$"):
        books.run(lambda tx: rates.remove(tx, "gone", NOON))
    assert books.dump() == before


@pytest.mark.parametrize(
    ("pattern", "micro", "said"),
    [
        ("", ONE, "a pattern has 1 to 256 characters"),
        ("  ", ONE, "a pattern has 1 to 256 characters"),
        ("x" * 257, ONE, "a pattern has 1 to 256 characters"),
        ("x", -1, "rate of output of 'x' is between 0 and 100,000,000"),
        ("x", MAX_MICRO + 1, "rate of output of 'x' is between 0 and 100,000,000"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(books, pattern, micro, said):
    with pytest.raises(LedgerError, match=said):
        books.run(lambda tx: rates.put(tx, pattern, {"output": micro}, NOON))
    assert books.count("rates") == 0
