"""A limit that a refusal names in words: so many per period. Pure.

1. Words say neither what is left nor how it refills. So no period holds more than the limit,
   wherever it begins, which both fixed and sliding windows accept. If the refusal came long before
   this process had sent so many, the limit admits no burst or others share it, and requests are
   spaced evenly.
2. A named limit binds at once. But a provider's words may be those of one channel of many: far more
   accepted than they allow disproves them, for a minute, then for two. After five periods, then
   ten, and so on, they are tested: a few more than allowed are sent, one at a time, until one is
   refused. The words of the account's own limit are not tested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ..verdict.rates import Counted, RateInWords
from .forecast import LONGEST, Sent
from .trust import SILENCE, Trust

#: Seconds after the end of a period at which it counts as over, for the network's jitter.
_AFTER: Final = 0.15
#: Below this share of the limit a refusal came early. Above that one the words are not about all: a
#: window accepts somewhat more than its limit around its edge.
_EARLY: Final = 0.8
_BEYOND: Final = 1.5
#: Periods until a provider's words are tested, doubled each time.
_TESTED_AFTER: Final = 5
#: Attempts that are kept.
_KEPT: Final = 20_000


@dataclass(slots=True, eq=False)
class NamedLimit:
    """One named limit, and the attempts within its period."""

    words: RateInWords
    trust: Trust = field(default_factory=Trust)
    is_spaced: bool = False
    _log: deque[Sent] = field(default_factory=deque)
    _spent: float = 0.0
    _paid_until: float = 0.0
    _test_at: float = 0.0
    _test_after: float = 0.0
    _probe_at: float | None = None

    @classmethod
    def said(cls, words: RateInWords, recent: Iterable[Sent], now: float) -> NamedLimit:
        """Return the limit that a refusal names, with the recent attempts counted."""
        named = cls(words)
        for sent in recent:
            named._count(sent)
        named._test_after = _TESTED_AFTER * words.per
        named._test_at = now + named._test_after
        named._bind(now)
        return named

    @property
    def counted(self) -> Counted:
        """Return the unit."""
        return self.words.counted

    @property
    def is_kept(self) -> bool:
        """Return True if the limit is confirmed."""
        return self.trust.is_confirmed

    def ready_at(self, now: float, cost: float) -> float:
        """Return when an attempt of a cost may go: ``now`` if at once."""
        if not self.trust.is_confirmed:
            return now
        opens_at = self._opens_at(now, cost)
        if not now < opens_at <= now + LONGEST:
            return now
        if self._probe_at is None and now >= self._test_at and not self.words.of_account:
            self._probe_at = now
            self._test_after *= 2
            self._test_at = now + self._test_after
        elif now >= self._test_at - self._test_after + self.words.per:
            self._probe_at = None  # a whole period of testing has decided nothing
        return opens_at if self._probe_at is None else min(opens_at, max(now, self._probe_at))

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that is sent."""
        if self._probe_at is not None and self._opens_at(now, self._cost(sent)) > now:
            self._probe_at = now + min(SILENCE, 0.8 * self._time_for_one)
        self._count(sent)

    def correct(self, sent: Sent, by: float) -> None:
        """Correct the cost of an attempt within the period."""
        if self._log and sent.number >= self._log[0].number:
            self._spent += by
            self._paid_until += by * self._time_for_one

    def accepted(self, sent: Sent, now: float) -> None:
        """Note an acceptance: far more of them than the words allow disproves the words."""
        if self.trust.is_confirmed and self._is_beyond(now):
            self.trust.disprove(now)
            self._probe_at = None

    def withdrawn(self, sent: Sent) -> None:
        """Do nothing: ``correct`` has made it free."""

    def refused(self, words: RateInWords | None, now: float) -> None:
        """Note a refusal; the same words confirm the limit."""
        if words == self.words and not self.trust.is_off(now):
            self._bind(now)

    @property
    def _time_for_one(self) -> float:
        return self.words.per / self.words.limit

    def _cost(self, sent: Sent) -> float:
        return sent.cost(self.words.counted)

    def _bind(self, now: float) -> None:
        """Let the words bind, with nothing left now, unless what was accepted disproves them."""
        self._probe_at = None
        self._forget(now)
        if self._is_beyond(now):
            self.trust.disprove(now)
            return
        self.trust.confirm()
        self.is_spaced = self.is_spaced or self._spent < _EARLY * self.words.limit
        self._paid_until = max(self._paid_until, now + self._time_for_one)

    def _is_beyond(self, now: float) -> bool:
        most = _BEYOND * self.words.limit + 1
        if self.words.of_account or self._spent <= most:
            return False
        self._forget(now)
        return sum(self._cost(each) for each in self._log if each.is_accepted) > most

    def _opens_at(self, now: float, cost: float) -> float:
        self._forget(now)
        cost = min(cost, float(self.words.limit))
        opens_at = max(now, self._paid_until) if self.is_spaced else now
        over = self._spent + cost - self.words.limit
        for each in self._log if over > 0 else ():
            over -= self._cost(each)
            if over <= 0:
                return max(opens_at, each.at + self.words.per + _AFTER)
        return opens_at

    def _count(self, sent: Sent) -> None:
        cost = self._cost(sent)
        self._log.append(sent)
        self._spent += cost
        self._paid_until = max(self._paid_until, sent.at) + cost * self._time_for_one
        if len(self._log) > _KEPT:
            self._spent -= self._cost(self._log.popleft())

    def _forget(self, now: float) -> None:
        since = now - self.words.per - _AFTER
        while self._log and self._log[0].at <= since:
            self._spent -= self._cost(self._log.popleft())
        if not self._log:
            self._spent = 0.0
