"""An answer read as a person reads it: sizes, money, rates, and words that ask for another try."""

from __future__ import annotations

import pytest

from comet_resilience.verdict.reading import MESSAGE_SEARCHED, Party, Reading, Topic, read
from comet_resilience.verdict.vocabulary import Observation


def topics(message: str, **facts: object) -> frozenset[Topic]:
    """Return what the words of a message name."""
    return read(Observation(status=429, message=message, **facts)).topics  # type: ignore[arg-type]


TOO_MUCH = [
    ("Limit 6000, Requested 6001", True),
    ("Limit 6000, Requested 6000", False),
    ("limit: 6,000; request: 60,000 tokens", True),
    ("limit: 60,000; request: 6,000 tokens", False),
    ("9000 tokens asked, 6000 a minute allowed", True),
    ("6000 tokens asked, 6000 a minute allowed", False),
    # Neither a model's number nor a name is a limit, and none at all is no limit of 0.
    ("Rate limit reached for gpt-5 on tokens: Limit 30000, Used 29000, Requested 2400", False),
    ("Rate limit reached for gpt-5. Requested 2400", False),
    ("Limit 0, Requested 5", False),
    ("Limit , Requested ,", False),
    ("Requested 500 tokens", False),
    ("Limit 500 tokens", False),
]


@pytest.mark.parametrize(("message", "is_too_much"), TOO_MUCH)
def test_size_beyond_the_limit_is_a_matter_of_numbers(message: str, is_too_much: bool) -> None:
    """A request is too large for a limit only if its own number is the greater one."""
    assert (Topic.SIZE in topics(message)) is is_too_much


def test_quota_that_comes_back_by_itself_is_no_money() -> None:
    """A period or a hint beside a quota makes it a rate."""
    assert Topic.MONEY in topics("quota exceeded")
    assert Topic.MONEY not in topics("quota exceeded: 500 requests per minute")
    assert Topic.MONEY not in topics("quota exceeded", retry_after=2.0)


def test_less_of_a_request_is_asked_only_where_no_rate_is_named() -> None:
    """A rate limit that would do with a shorter prompt, too, is no overflow of the context."""
    assert Topic.CONTEXT in topics("Please reduce the length of the messages")
    assert Topic.CONTEXT not in topics("400 tokens per minute: reduce the prompt, or wait")
    assert Topic.CONTEXT not in topics("Please reduce the prompt", retry_after=2.0)


def test_only_the_beginning_of_a_message_is_searched() -> None:
    """The work is bounded, whatever a server sends."""
    filler = "x" * (MESSAGE_SEARCHED - len("余额不足"))
    assert Topic.MONEY in topics(filler + "余额不足")
    assert Topic.MONEY not in topics(filler + " 余额不足")


def test_name_of_another_party_contradicts_words_and_a_vague_one_does_not() -> None:
    """Words count where no code says otherwise, or where the code leaves room for them."""
    words = frozenset({Topic.MONEY})
    assert Reading(topics=words).is_about(Topic.MONEY)
    assert Reading(named=Topic.RATE, topics=words).is_about(Topic.MONEY)
    assert not Reading(named=Topic.RATE, explicit=True, topics=words).is_about(Topic.MONEY)
    assert not Reading(named=Topic.CONTENT, topics=words).is_about(Topic.MONEY)
    assert Reading(named=Topic.MONEY).is_about(Topic.MONEY)
    assert not Reading().is_about(Topic.MONEY)


def test_code_stands_above_type() -> None:
    """The stronger name decides, and a type alone is known as such."""
    both = read(Observation(status=400, code="context_length_exceeded", type="server_error"))
    assert (both.named, both.by_type, both.party) == (Topic.CONTEXT, False, Party.REQUEST)
    alone = read(Observation(status=400, code="1234567", type="Server-Error"))
    assert (alone.named, alone.by_type, alone.party) == (Topic.SERVER, True, Party.PLATFORM)
    neither = read(Observation(status=400))
    assert (neither.named, neither.by_type, neither.party) == (None, False, Party.NOBODY)
    assert read(Observation(status=429, code="Rate_Limit-Exceeded")).explicit
    assert not read(Observation(status=429, type="rate_limit_exceeded")).explicit


@pytest.mark.parametrize(
    ("message", "same"),
    [
        ("Please try again later", True),
        ("Please use a smaller image and try again", False),
        ("Shorten the prompt. Then retry", False),
        ("Try again with a different model", False),
        ("请稍后重试", True),
        ("请修改后重试", False),
        ("Model not found", False),
        # Parts of a class's name are no words of a sentence.
        ("ServiceUnavailableError: no", False),
    ],
)
def test_another_try_is_one_of_the_same_request(message: str, same: bool) -> None:
    """Words ask for the same request again, or for another one first."""
    assert read(Observation(status=400, message=message)).same_again is same
