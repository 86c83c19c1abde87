"""The spacing of sends below one limit, by what is believed of a rate there. Pure.

It begins with the first refusal and logs what is sent from then on (``attempt_log``); the log is
held against a cap and against a rate (``explanations``), and ``belief`` says what follows. Here is
when the next may go:

1. Where a rate is believed, a bucket in debt spaces sends: each may go while the level is not below
   zero, and costs one. Of a window no more is sent than it was seen to take.
2. A refusal costs one more. From the second in a row on the next goes after as long again as it has
   been refused.
3. Before that, in the early days, the first sends after the first refusal are spread a little:
   several at once that are refused but for the first look alike for a cap of one and for a rate
   without burst. Where a first closure cannot be a cap's the canaries are spaced: a window has to
   pass.

A refusal of an attempt that explored the rate, or the second in a row, is explained by the rate
alone: the limit on what is in flight is not told. One with so many in flight that hardly any was
accepted is the cap's, and changes nothing here.
"""

from __future__ import annotations

import math
from typing import Final

from . import belief
from .attempt_log import JUDGED, Attempt, AttemptLog
from .belief import GAIN_LEAST, UNDER, Listening, Spaced, State
from .explanations import ceiling_of, unexplained_by_cap

#: Seconds between two questions to the log, and between two looks whether to ask.
ASK_EVERY: Final = 1.0
_LOOK_EVERY: Final = 0.25
#: Seconds without anything held back after which no rate is believed any more, between two canaries
#: at most (where a window is being waited for, and else), and without any send at most.
_IDLE: Final = 30.0
_CLOSED_MOST: Final = 30.0
_PAUSE_MOST: Final = 15.0
LONGEST: Final = 60.0
#: How many sends the early days last, over how many seconds at most each is spread, and how many
#: times it is doubted that refusals have met a ceiling.
_EARLY_DAYS: Final = 64
_SPREAD: Final = 0.1
_DOUBTS: Final = 2
#: Seconds by which a window is taken to be longer than it is, and that share of it at most; when
#: windows of usual length would open, counted from the first attempt.
_CLOCK: Final = 0.2
_CLOCK_SHARE: Final = 0.02
_USUAL_WINDOWS: Final = (10.0, 60.0)
#: Refusals in a row that close a limit.
_CLOSED: Final = 3


class Spacing:
    """The rate that refusals have taught, and the time of the next attempt by it.

    Attempts have the ``number`` of the limit's own tickets.
    """

    __slots__ = (
        "_asked_at", "_candidate", "_doubt_at", "_doubts", "_early_until", "_held_back_at",
        "_level", "_looked_at", "_now", "_paused_until", "_refused_since", "_row", "_sent_at",
        "_told_until", "log", "state",
    )  # fmt: skip

    def __init__(self, numbered: int, level: int, born: float, now: float) -> None:
        self.state: State = Listening()
        self.log: AttemptLog = AttemptLog(numbered, level, born, now)
        self._now = now
        self._early_until = numbered + _EARLY_DAYS
        self._doubts = _DOUBTS
        self._doubt_at: float | None = None
        self._asked_at = self._looked_at = -math.inf
        self._row, self._refused_since, self._told_until = 0, 0.0, 0
        self._candidate: Attempt | None = None
        self._level, self._paused_until = 0.0, 0.0
        self._sent_at, self._held_back_at = -math.inf, 0.0

    @property
    def rate(self) -> float | None:
        """Return the rate (requests a second) that sends keep to, ``None`` if none is believed."""
        return None if isinstance(self.state, Listening) else self.state.rate

    @property
    def per_minute(self) -> int | None:
        """Return the same in whole requests a minute."""
        return None if self.rate is None else max(1, round(60 * self.rate))

    # -- When the next may go ---------------------------------------------------------------------

    def ready_at(self, now: float) -> float:
        """Return when the next may go: ``now`` if at once. Asked where somebody wants to send."""
        self.tick(now)
        at, state = max(now, self._paused_until), self.state
        if not isinstance(state, Listening):
            at = max(at, self._window_opens_at(state), now - (self._level + 1e-9) / state.rate)
            if at > now:
                self._held_back_at = now
        return min(at, max(now, self._sent_at + LONGEST))

    def _window_opens_at(self, state: Spaced) -> float:
        """Return when less was sent in the last period than a window was seen to take."""
        period = state.family.period
        if not period:
            return 0.0
        most = max(1, round(period * state.rate / UNDER))
        at = self.log.accepted_at(most - 1)
        return 0.0 if at is None else at + period + min(_CLOCK, _CLOCK_SHARE * period)

    @property
    def _spread(self) -> float:
        """Return how far sends are spread in the early days."""
        log = self.log
        if log.numbered >= self._early_until:
            return 0.0
        if self._row:
            return log.silence
        return min(_SPREAD, (self._now - log.born) / max(1, log.accepted) / 4)

    def take_doubt(self) -> float | None:
        """Return, once, when a probe is due: what was refused may have been sent too close."""
        at, self._doubt_at = self._doubt_at, None
        return at

    # -- What happens -----------------------------------------------------------------------------

    def sent(self, number: int, now: float, in_flight: int) -> Attempt:
        """Count an attempt that goes out."""
        self.tick(now)
        attempt, state = Attempt(now, in_flight, number=number), self.state
        was_held_back, self._sent_at = self._held_back_at >= self._sent_at, now
        self.log.add(attempt)
        if self._row and self._candidate is None:
            self._candidate = attempt
        if isinstance(state, Listening):
            self._paused_until = max(self._paused_until, now + self._spread)
            return attempt
        if was_held_back:
            attempt.rate = state.rate
            if self._row == 0:
                self.state = belief.faster(state, now)
                attempt.explores = self.state is not state
        self._level -= 1.0
        return attempt

    def accepted(self, attempt: Attempt, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        self.tick(now)
        attempt.is_answered = True
        if self._candidate is not None and attempt.number >= self._candidate.number:
            self._reopen()
        is_early = self._row == 0 and self.log.numbered < self._early_until
        if is_early and now >= self._looked_at + _LOOK_EVERY:
            self._looked_at = now
            self._ask()

    def refused(self, attempt: Attempt, now: float) -> bool:
        """Note a refusal for load; return whether the rate alone explains it."""
        self.tick(now)
        self.log.refuse(attempt, now)
        if attempt is self._candidate:
            self._candidate = None
        is_spaced = self.rate is not None
        if is_spaced and not attempt.explores and self._is_of_cap(attempt):
            return False
        if attempt.number <= self._told_until:  # sent before the last refusal was heard: no news
            return is_spaced and attempt.explores
        self._told_until = self.log.numbered
        self._row += 1
        if self._row == 1:
            self._refused_since = attempt.at
        if isinstance(self.state, Listening):
            self._refused_unspaced(self.state, now)
            return False
        return self._refused_spaced(attempt, self.state, now)

    def sent_before(self, number: int, at: float, in_flight: int) -> Attempt:
        """Return an attempt that was sent before the first refusal."""
        return self.log.sent_before(number, at, in_flight)

    def withdrawn(self, attempt: Attempt) -> None:
        """Note that an attempt was never sent."""
        self.log.withdraw(attempt)
        if attempt is self._candidate:
            self._candidate = None

    def share(self, now: float) -> None:
        """Note that others were refused, too: nothing is spaced by this one alone for a while."""
        self.tick(now)
        self._early_until, self._paused_until, self._doubt_at = 0, now, None
        if isinstance(self.state, Listening):
            until = max(self.state.until, now + belief.COOL)
            self._listen(Listening(self.state.reason, until, self.state.cool))
        else:
            reason = "others of the account are refused, too"
            self._listen(Listening(reason, now + belief.COOL, self.state.kept.cool))

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        state = self.state
        if now > self._now and not isinstance(state, Listening):
            filled = self._level + max(0.0, now - max(self._now, self._paused_until)) * state.rate
            depth = 0.0 if state.family.size <= 1 and not state.family.period else 1.0
            self._level = max(self._level, min(depth, filled))
            if now - self._held_back_at > max(_IDLE, state.family.period):
                self._listen(Listening("nothing was held back", now, state.kept.cool))
        self._now = max(now, self._now)
        candidate = self._candidate
        if candidate is not None and now >= candidate.at + self.log.silence:
            self._reopen()

    def _is_of_cap(self, attempt: Attempt) -> bool:
        return attempt.in_flight >= ceiling_of(self.log.decided(self._now)[-JUDGED:])

    def _refused_unspaced(self, state: Listening, now: float) -> None:
        if self.log.numbered < self._early_until and self._doubts:
            self._doubts, self._doubt_at = self._doubts - 1, now + self.log.silence
        if self._row < _CLOSED or now < state.until or not self.log.is_complete:
            return
        if unexplained_by_cap(self.log.decided(now)) >= GAIN_LEAST:
            wait = min(_CLOSED_MOST, max(self.log.silence, 2 * (now - self._refused_since)))
            usual = (self.log.born + period + 2 * _CLOCK for period in _USUAL_WINDOWS)
            self._paused_until = min(at for at in (*usual, now + wait) if at > now)

    def _refused_spaced(self, attempt: Attempt, state: Spaced, now: float) -> bool:
        self._held_back_at = now
        if self._row > 1:
            wait = max(1 / state.rate, now - self._refused_since)
            self._paused_until = now + min(_PAUSE_MOST, wait)
            return True
        log = None
        if now >= self._asked_at + ASK_EVERY:
            self._asked_at, log = now, self.log.decided(now)
        after = belief.after_refusal(state, attempt, log, now, is_complete=self.log.is_complete)
        self._level = min(self._level, 0.0) - 1.0
        if isinstance(after, Listening):
            self._listen(after)
            return False
        self.state = after
        return attempt.explores

    def _reopen(self) -> None:
        self._candidate, self._row = None, 0
        self._ask()

    def _ask(self) -> None:
        """Ask the log for a rate, where none is believed and a cap leaves much unexplained."""
        state, now = self.state, self._now
        if not isinstance(state, Listening) or now < max(state.until, self._asked_at + ASK_EVERY):
            return
        log = self.log.decided(now)
        if unexplained_by_cap(log) < GAIN_LEAST:
            return
        self._asked_at = now
        after = belief.first(log, state, now, is_complete=self.log.is_complete)
        if isinstance(after, Listening):
            return
        self.state, self._held_back_at = after, now
        self._level = min(self._level, 0.0) + after.family.period * after.rate

    def _listen(self, state: Listening) -> None:
        self.state, self._row = state, 0
