"""The spacing of sends below one limit, by the rate that refusals have taught. Pure.

It starts with the first refusal and logs each attempt from then on (``attempt_log``). The log is
compared with a cap and with a rate (``explanations``), and ``belief`` holds the resulting state.
This module says when the next attempt may be sent:

1. While a rate is assumed, a leaky bucket spaces sends: each costs one, and may go while the level
   is not negative. In a window no more is sent than it was seen to accept.
2. A refusal costs one more. From the second in a row on, the next attempt waits for as long again
   as there have been refusals.
3. Until then, the first ``_EARLY_SENDS`` sends after the first refusal are spread a little: several
   at once that are all refused but the first look the same for a cap of one and for a rate without
   burst. If the limit closes and no cap explains that, the canaries are spaced, too: a window has
   to end.

A refusal of an attempt that explored, or the second in a row, is explained by the rate alone: the
limit on attempts in flight is not told. A refusal with so many in flight that hardly any was ever
accepted is the cap's, and changes nothing here.

The constants were tuned with ``python -m tests.bench.rates``; shares below are those of its
oracle's throughput on seed 1, "instead of" those with the rule.
"""

from __future__ import annotations

import math
from typing import Final

from . import belief
from .attempt_log import JUDGED, Attempt, AttemptLog
from .belief import MIN_GAIN, UNDER, Listening, Spaced, State
from .explanations import ceiling_of, unexplained_by_cap

#: Seconds between two searches of the log for a rate, which take some milliseconds of CPU, and
#: between two checks whether to search.
SEARCH_EVERY: Final = 1.0
_CHECK_EVERY: Final = 0.25
#: Seconds without a delayed send after which a rate is dropped.
_IDLE: Final = 30.0
#: The most seconds between two canaries (waiting for a window, and else), and without any send: the
#: longest window that ``explanations`` considers.
_CLOSED_MOST: Final = 30.0
_PAUSE_MOST: Final = 15.0
LONGEST: Final = 60.0
#: Sends after the first refusal that are spread, and the most seconds for each (without: 0.74
#: instead of 0.90 at a rate without burst). After one that was refused so many seconds: a slow
#: proxy refuses later, and slots would stay empty (a burst at LiteLLM's: 14.3 instead of 12.8 s).
_EARLY_SENDS: Final = 64
_SPREAD: Final = 0.1
_SPREAD_REFUSED: Final = 0.25
#: Early probes that are asked for, as the refusals may have met no ceiling (without: 0.65 instead
#: of 0.86 at 2 a second).
_DOUBTS: Final = 2
#: A window is taken to be longer by 2 % and at most 0.2 s: client and server start it at different
#: times.
_CLOCK: Final = 0.2
_CLOCK_SHARE: Final = 0.02
#: Windows (seconds) whose end is tried while closed, counted from the first attempt (without: 0.84
#: instead of 0.97 at a sliding window of 30 a minute).
_USUAL_WINDOWS: Final = (10.0, 60.0)
#: Refusals in a row that close a limit, as in ``algorithm``.
_CLOSED: Final = 3


class Spacing:
    """The rate that refusals have taught, and the time of the next attempt by it.

    ``numbered`` attempts were sent since ``born``, with up to ``level`` in flight accepted.
    Attempts have the numbers of the limit's tickets.
    """

    __slots__ = (
        "_candidate", "_checked_at", "_counted_until", "_doubt_at", "_doubts", "_held_back_at",
        "_level", "_now", "_paused_until", "_row", "_row_since", "_searched_at", "_sent_at",
        "_spread_until", "log", "state",
    )  # fmt: skip

    def __init__(self, numbered: int, level: int, born: float, now: float) -> None:
        self.state: State = Listening()
        self.log: AttemptLog = AttemptLog(numbered, level, born, now)
        self._now = now
        self._spread_until = numbered + _EARLY_SENDS
        self._doubts = _DOUBTS
        self._doubt_at: float | None = None
        self._searched_at = self._checked_at = -math.inf
        self._row, self._row_since, self._counted_until = 0, 0.0, 0
        self._candidate: Attempt | None = None
        self._level, self._paused_until = 0.0, 0.0
        self._sent_at, self._held_back_at = -math.inf, 0.0

    @property
    def rate(self) -> float | None:
        """Return the rate (requests a second) that sends keep to, ``None`` for none."""
        return None if isinstance(self.state, Listening) else self.state.rate

    @property
    def per_minute(self) -> int | None:
        """Return the rate in whole requests a minute, 1 or more."""
        return None if self.rate is None else max(1, round(60 * self.rate))

    # -- The time of the next attempt -------------------------------------------------------------

    def ready_at(self, now: float) -> float:
        """Return when the next attempt may go, ``now`` if at once; call it only if one waits."""
        self.tick(now)
        at, state = max(now, self._paused_until), self.state
        if not isinstance(state, Listening):
            at = max(at, self._window_opens_at(state), now - (self._level + 1e-9) / state.rate)
            if at > now:
                self._held_back_at = now
        return min(at, max(now, self._sent_at + LONGEST))

    def _window_opens_at(self, state: Spaced) -> float:
        """Return when the last period has room: below what a window was seen to accept."""
        period = state.family.period
        if not period:
            return 0.0
        most = max(1, round(period * state.rate / UNDER))
        at = self.log.accepted_at(most - 1)
        return 0.0 if at is None else at + period + min(_CLOCK, _CLOCK_SHARE * period)

    @property
    def _spread(self) -> float:
        """Return the seconds between the first sends after the first refusal."""
        log = self.log
        if log.numbered >= self._spread_until:
            return 0.0
        if self._row:
            return min(_SPREAD_REFUSED, log.silence)
        return min(_SPREAD, (self._now - log.born) / max(1, log.accepted) / 4)

    def take_doubt(self) -> float | None:
        """Return, once, the time for an early probe: the refusal may have met no ceiling."""
        at, self._doubt_at = self._doubt_at, None
        return at

    # -- Events -----------------------------------------------------------------------------------

    def sent(self, number: int, now: float, in_flight: int) -> Attempt:
        """Log an attempt that is sent."""
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
                self.state = belief.after_send(state, now)
                attempt.explores = self.state is not state
        self._level -= 1.0
        return attempt

    def accepted(self, attempt: Attempt, now: float) -> None:
        """Note that an answer has begun."""
        self.tick(now)
        attempt.is_answered = True
        if self._candidate is not None and attempt.number >= self._candidate.number:
            self._reopen()
        is_early = self._row == 0 and self.log.numbered < self._spread_until
        if is_early and now >= self._checked_at + _CHECK_EVERY:
            self._checked_at = now
            self._search()

    def refused(self, attempt: Attempt, now: float) -> bool:
        """Note a refusal for load; return True if the rate alone explains it."""
        self.tick(now)
        self.log.refuse(attempt, now)
        if attempt is self._candidate:
            self._candidate = None
        is_spaced = self.rate is not None
        if is_spaced and not attempt.explores and self._is_of_cap(attempt):
            return False  # 0.87 instead of 0.96 at a cap of 20 and 300 a minute without this
        if attempt.number <= self._counted_until:  # sent before the last refusal arrived
            return is_spaced and attempt.explores
        self._counted_until = self.log.numbered
        self._row += 1
        if self._row == 1:
            self._row_since = attempt.at
        if isinstance(self.state, Listening):
            self._refused_unspaced(self.state, now)
            return False
        return self._refused_spaced(attempt, self.state, now)

    def sent_before(self, number: int, at: float, in_flight: int) -> Attempt:
        """Return the logged attempt of a ticket from before the first refusal."""
        return self.log.sent_before(number, at, in_flight)

    def withdrawn(self, attempt: Attempt) -> None:
        """Forget an attempt that was never sent."""
        self.log.withdraw(attempt)
        if attempt is self._candidate:
            self._candidate = None

    def share(self, now: float) -> None:
        """Drop the rate for a while: other partitions of the account are refused, too."""
        self.tick(now)
        self._spread_until, self._paused_until, self._doubt_at = 0, now, None
        if isinstance(self.state, Listening):
            until = max(self.state.until, now + belief.COOL)
            self._drop_rate(Listening(self.state.reason, until, self.state.cool))
        else:
            reason = "others of the account are refused, too"
            self._drop_rate(Listening(reason, now + belief.COOL, self.state.kept.cool))

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        state = self.state
        if now > self._now and not isinstance(state, Listening):
            filled = self._level + max(0.0, now - max(self._now, self._paused_until)) * state.rate
            depth = 0.0 if state.family.size <= 1 and not state.family.period else 1.0
            self._level = max(self._level, min(depth, filled))
            if now - self._held_back_at > max(_IDLE, state.family.period):
                self._drop_rate(Listening("nothing was held back", now, state.kept.cool))
        self._now = max(now, self._now)
        candidate = self._candidate
        if candidate is not None and now >= candidate.at + self.log.silence:
            self._reopen()

    def _is_of_cap(self, attempt: Attempt) -> bool:
        return attempt.in_flight >= ceiling_of(self.log.decided(self._now)[-JUDGED:])

    def _refused_unspaced(self, state: Listening, now: float) -> None:
        if self.log.numbered < self._spread_until and self._doubts:
            self._doubts, self._doubt_at = self._doubts - 1, now + self.log.silence
        if self._row < _CLOSED or now < state.until or not self.log.is_complete:
            return
        if unexplained_by_cap(self.log.decided(now)) >= MIN_GAIN:
            wait = min(_CLOSED_MOST, max(self.log.silence, 2 * (now - self._row_since)))
            usual = (self.log.born + period + 2 * _CLOCK for period in _USUAL_WINDOWS)
            self._paused_until = min(at for at in (*usual, now + wait) if at > now)

    def _refused_spaced(self, attempt: Attempt, state: Spaced, now: float) -> bool:
        self._held_back_at = now
        if self._row > 1:
            wait = max(1 / state.rate, now - self._row_since)
            self._paused_until = now + min(_PAUSE_MOST, wait)
            return True
        log = None
        if now >= self._searched_at + SEARCH_EVERY:
            self._searched_at, log = now, self.log.decided(now)
        after = belief.after_refusal(state, attempt, log, now, is_complete=self.log.is_complete)
        self._level = min(self._level, 0.0) - 1.0
        if isinstance(after, Listening):
            self._drop_rate(after)
            return False
        self.state = after
        return attempt.explores

    def _reopen(self) -> None:
        """Go on without a pause: the first attempt after a refusal was accepted."""
        self._candidate, self._row = None, 0
        if isinstance(self.state, Listening):
            self._paused_until = min(self._paused_until, self._now)
        self._search()

    def _search(self) -> None:
        """Search the log for a rate, if none is assumed and a cap leaves much unexplained."""
        state, now, search_at = self.state, self._now, self._searched_at + SEARCH_EVERY
        if not isinstance(state, Listening) or now < max(state.until, search_at):
            return
        log = self.log.decided(now)
        if unexplained_by_cap(log) < MIN_GAIN:
            return
        self._searched_at = now
        after = belief.learn(log, state, now, is_complete=self.log.is_complete)
        if isinstance(after, Listening):
            return
        self.state, self._held_back_at = after, now
        self._level = min(self._level, 0.0) + after.family.period * after.rate

    def _drop_rate(self, state: Listening) -> None:
        self.state, self._row = state, 0
