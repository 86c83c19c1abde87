"""One renewal: the request, the commit, and another try if others were faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from comet_resilience.fleet.memory import Count, save
from comet_resilience.fleet.merge import Sample, SampledAttempt, level_of
from comet_resilience.fleet.message import (
    Addressed,
    ShareReply,
    ShareRequest,
    StoreError,
)
from comet_resilience.fleet.renewal import COMMIT_TRIES, Renewal, RenewalRequest, exchange
from comet_resilience.fleet.sampler import Sampler
from comet_resilience.fleet.scope import Keys
from comet_resilience.limits.algorithm import LimitAlgorithm, StepBack

KEYS, OTHER, NONSENSE = ("m", "l"), ("m2", "l2"), ("m3", "l3")
NOW = 1_700_000_000.0
ASK = ShareRequest(member="m", in_use=5, want=9, share=5, epoch=4, rate=25.0, ttl=3.0, limit=20)
REFUSED = Sample(refused=(SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=4),))


def make() -> LimitAlgorithm:
    """The fleet's algorithm."""
    return StepBack(20, 1, 64)


def steady() -> str:
    """The state of a fleet at a known level of 20."""
    algorithm = StepBack(20, 1, 64)
    algorithm.level, algorithm.allowance = 20, 0
    return save(algorithm, Count(attempts=90.0, at=NOW - 0.1, stepped_at=NOW - 60))


SEEN = ShareReply(
    share=5, limit=20, version=3, epoch=4, members=4, in_use=15, lagging=0, rate=75.0, now=NOW,
    committed=False, contended=True, state=steady(),
)  # fmt: skip


class Script:
    """Answers as the script in Redis does; the first ``lost`` commits come too late."""

    def __init__(self, lost: int = 0) -> None:
        self.asked: list[ShareRequest] = []
        self.commands: list[list[Keys]] = []
        self.lost = lost
        self.version = SEEN.version

    def __call__(self, asked: Sequence[Addressed]) -> list[ShareReply | StoreError]:
        """Reply to each."""
        self.commands.append([one.keys for one in asked])
        nonsense = StoreError("nonsense")
        return [nonsense if one.keys == NONSENSE else self.reply(one.request) for one in asked]

    def reply(self, request: ShareRequest) -> ShareReply:
        """Take a commit of the latest version; others write one before a lost one."""
        self.asked.append(request)
        if request.commit is not None:
            self.version += 1
            if self.lost:
                self.lost -= 1
            elif request.commit.version == self.version - 1:
                return replace(
                    SEEN, version=self.version, committed=True, state=request.commit.state
                )
        return replace(SEEN, version=self.version)


def asked(
    sample: Sample, make: Callable[[], LimitAlgorithm] = make, keys: Keys = KEYS
) -> RenewalRequest:
    """A share's part with such a sample."""
    return RenewalRequest(
        request=ASK,
        keys=keys,
        maximum=1_000,
        sample=sample,
        sampler=Sampler(),
        at=0.0,
        make=make,
        remembered="",
        jitter=0.5,
    )


def renew(script: Script, sample: Sample) -> Renewal:
    """One renewal of a member with such a sample."""
    (renewal,) = exchange(script, [asked(sample)])
    assert isinstance(renewal, Renewal)
    return renewal


def test_without_news_the_answer_is_the_renewal() -> None:
    script = Script()
    renewal = renew(script, Sample())
    assert script.asked == [ASK]
    assert renewal.is_reported
    assert not renewal.reply.committed
    assert level_of(renewal.fleet.algorithm) == 20


def test_news_are_committed_over_the_version_that_was_read() -> None:
    script = Script()
    renewal = renew(script, REFUSED)
    _, second = script.asked
    assert second.commit is not None
    assert (second.commit.version, second.epoch) == (3, 4)
    assert renewal.is_reported
    assert renewal.reply.committed
    assert renewal.fleet.count.refusals == 1


def test_when_others_were_faster_the_news_are_told_over_what_they_wrote() -> None:
    script = Script(lost=2)
    renewal = renew(script, REFUSED)
    assert [request.commit and request.commit.version for request in script.asked] == [
        None,
        3,
        4,
        5,
    ]
    assert renewal.is_reported
    assert renewal.fleet.count.refusals == 1  # counted once in spite of the retries


def test_when_others_are_always_faster_the_news_wait_for_the_next_renewal() -> None:
    script = Script(lost=COMMIT_TRIES)
    renewal = renew(script, REFUSED)
    assert len(script.asked) == 1 + COMMIT_TRIES
    assert not renewal.is_reported
    assert renewal.fleet.count.refusals == 0  # the fleet as the others left it


def test_all_scopes_go_into_one_command_and_all_commits_into_the_next() -> None:
    script = Script()
    renewals = exchange(script, [asked(REFUSED), asked(Sample(), keys=OTHER)])
    assert script.commands == [[KEYS, OTHER], [KEYS]]
    assert [isinstance(one, Renewal) and one.reply.committed for one in renewals] == [True, False]


def test_what_is_wrong_with_one_scope_is_not_the_others() -> None:
    """Neither an algorithm of the user's that raises, nor keys that hold something else."""

    def broken() -> LimitAlgorithm:
        raise LookupError("a fault of the user's")

    fault, nonsense, sound = exchange(
        Script(), [asked(REFUSED, broken), asked(REFUSED, keys=NONSENSE), asked(REFUSED)]
    )
    assert isinstance(fault, LookupError)
    assert isinstance(nonsense, StoreError)
    assert isinstance(sound, Renewal)
    assert sound.reply.committed


@pytest.mark.parametrize("answered", [0, 1])
def test_without_a_reply_only_what_is_still_open_fails(answered: int) -> None:
    script, error = Script(), StoreError("Redis is away")

    def send(asked: Sequence[Addressed]) -> list[ShareReply | StoreError]:
        if len(script.commands) == answered:
            raise error
        return script(asked)

    news, none = exchange(send, [asked(REFUSED), asked(Sample(), keys=OTHER)])
    assert news is error
    assert isinstance(none, Renewal) is bool(answered)
