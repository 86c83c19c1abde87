"""The spacing of sends below one limit: whether a rate was learnt there, and which. Pure.

It begins with the first refusal and keeps the log of what is sent from then on.

1. Off, it listens. When attempts are answered again after refusals, and the best cap on what is in
   flight leaves enough of the log unexplained, the log is asked for a rate (``explanations``). A
   rate is believed if it leaves at most a quarter of that, and clearly less.
2. On, sends are spaced a little wider than the rate, by a bucket in debt: each may go while the
   level is not below zero, and costs one. Of a window no more is sent than it was seen to take.
3. The rate holds for some sends or half a minute, then it is explored upward: slowly at first,
   faster with what was gained. Only sends that were really held back count.
4. A refusal while on costs one more and asks the log again. The kind of limit stays the same while
   it is near the best; what the log cannot tell is taken for a rate slightly too high. The first
   refusal of what did not explore leads back to the rate that held before the last exploration.
   One with so many in flight that hardly any was accepted is the cap's, and changes nothing here.
5. A refusal of an attempt that explored the rate, or the second in a row, is explained by the rate
   alone: the limit on what is in flight is not told. From the second in a row on, one canary at a
   time is sent, after as long as it has been refused.
6. Off again: nothing was held back for a while; or a cap explains the refusals and a rate does not;
   or few are refused and most of that stays unexplained; or what was not explored is refused again
   and again: others share the rate, and whoever gives way to them starves. After the last two no
   rate is believed for a minute, then for two, and so on.
7. In the early days, the first sends after the first refusal, attempts are spread a little: several
   at once that are refused but for the first look alike for a cap of one and for a rate without
   burst. So the next probe is due at once, too. And where a first closure cannot be a cap's, the
   canaries are spaced: a window has to pass.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .explanations import (
    JUDGED,
    PRESSED,
    Attempt,
    Family,
    Kind,
    ceiling_of,
    explain,
    share_unexplained_by_cap,
    taken_under_pressure,
    unexplained_by_cap,
)

#: The log is as long as what is judged and reaches back two minutes, but is never longer than this.
LOG_MOST: Final = 512
_LOG_TIME: Final = 120.0
#: What a cap has to leave unexplained, the share of it that a rate may leave (less where nothing
#: was answered since), and the refusals that it takes.
_GAIN_ON: Final = 1.2
_SHARE_ON: Final = 0.25
_SHARE_EARLY: Final = 0.1
_SHARE_WINDOW: Final = 0.1
_LEAST_REFUSALS: Final = 4
#: How many times the depth of a bucket has to be accepted before its rate is believed.
_DEPTHS: Final = 2
#: Of each refusal in all of the log, what a cap has to leave at least if a rate is to be believed,
#: and at most if it is to be believed no more.
_SHARE_OF_RATE: Final = 0.25
_SHARE_OF_CAP: Final = 0.1
#: Seconds between two questions to the log, and between two looks whether to ask.
ASK_EVERY: Final = 1.0
_LOOK_EVERY: Final = 0.25
#: The share of a rate that is used, and of one that was refused where the log knows no more; of one
#: that was explored so far, at most so many times the last known.
_UNDER: Final = 0.97
_CUT: Final = 0.96
_NEAR: Final = 1.25
_FAR: Final = 1.5
#: What a rate has to explain more than a cap if the log is to know more than the last refusal.
_NEWS: Final = 0.5
#: Sends for which a rate holds, and within which seconds; in windows two periods, but at least so
#: many sends.
_HOLD: Final = 70
_HOLD_TIME: Final = 4.0
_HOLD_MOST: Final = 30.0
_HOLD_LEAST: Final = 40
#: Exploration: each send gains a share of the base, and of what was gained; three times as much
#: until the first refusal. At most so much a send, so many times the base, and twice the base at
#: first, doubled in so many seconds; in windows a share in the first period, doubled with each. A
#: bucket's slow rate gains by time: as much as would double it in ``_GROWS_IN`` seconds.
_GROW: Final = 0.01
_GROW_GAINED: Final = 0.08
_GROWS_IN: Final = 30.0
_FRESH: Final = 3.0
_GROW_MOST: Final = 0.15
_FARTHEST: Final = 8.0
_DOUBLES_IN: Final = 10.0
_GROW_WINDOW: Final = 0.08
_FRESH_PERIOD: Final = 0.25
#: Seconds without anything held back after which no rate is believed any more, between two canaries
#: at most, and without any send at most.
_IDLE: Final = 30.0
_PAUSE_MOST: Final = 15.0
_CLOSED_MOST: Final = 30.0
LONGEST: Final = 60.0
#: When a cap is the better explanation, and when neither is.
_CAP_BETTER: Final = 1.5
_CAP_UNEXPLAINED: Final = 2.8
_SHARE_OFF: Final = 0.5
_NOISE: Final = 0.10
_STRIKES: Final = 3
_STRUCK: Final = 0.92
_COOL: Final = 60.0
_COOL_MOST: Final = 480.0
#: Seconds in which a refusal comes, as assumed at first; so many times as long without one an
#: attempt is taken for accepted.
_REFUSAL_TIME: Final = 0.2
_LATEST: Final = 0.2
_SILENCE: Final = 2.5
_SILENCE_MOST: Final = 1.0
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


@dataclass(slots=True, eq=False)
class Spaced:
    """One attempt; ``rate`` is what it was sent at, 0 where nothing held it back."""

    number: int
    attempt: Attempt
    rate: float = 0.0
    explores: bool = False


@dataclass(slots=True, eq=False)
class Spacing:
    """The rate that refusals have taught, and the time of the next attempt by it.

    ``rate`` is in requests a second, ``None`` while none is believed; ``base`` is the last one that
    the log gave. Attempts have the ``number`` of the limit's own tickets.
    """

    rate: float | None = None
    base: float = 0.0
    family: Family | None = None
    reason: str = ""
    log: deque[Attempt] = field(default_factory=deque)
    _numbered: int = 0
    _now: float = 0.0
    _born: float = 0.0
    _sent_at: float = -math.inf
    _early: dict[int, Attempt] = field(default_factory=dict)
    _early_until: int = 0
    _doubts: int = _DOUBTS
    _doubt_at: float | None = None
    _is_complete: bool = True
    _refusals: int = 0
    _refusal_time: float = _REFUSAL_TIME
    _row: int = 0
    _told_until: int = 0
    _refused_since: float = 0.0
    _candidate: Spaced | None = None
    _asked_at: float = -math.inf
    _looked_at: float = -math.inf
    _pressed_at: int = 0
    _strikes: int = 0
    _struck_at: float = 0.0
    _cool: float = 0.0
    _cool_until: float = 0.0
    _depth: float = 1.0
    _level: float = 0.0
    _unbounded_level: float = 0.0
    _paused_until: float = 0.0
    _held_back_at: float = 0.0
    _window: deque[Attempt] = field(default_factory=deque)
    _catches_up_until: float = 0.0
    _is_fresh: bool = True
    _hold: int = 0
    _hold_until: float = 0.0
    _holds_most_until: float = 0.0
    _explored_since: float | None = None
    _held: tuple[Family, float] | None = None

    def begin(self, numbered: int, level: int, born: float, now: float) -> None:
        """Begin with the first refusal, before it is told.

        ``numbered`` attempts were sent since ``born``. They are taken to have been accepted, one
        after the other, with no more in flight than the ``level`` that is known to be.
        """
        self._numbered, self._now, self._born = numbered, now, born
        self._early_until = numbered + _EARLY_DAYS
        first = max(1, numbered - JUDGED + 1)
        self._is_complete = first == 1
        gap = (now - born) / max(1, numbered)
        for number in range(first, numbered + 1):
            attempt = Attempt(born + number * gap, max(1, min(number, level)))
            self._early[number] = attempt
            self.log.append(attempt)

    def sent_before(self, number: int, at: float, in_flight: int) -> Spaced:
        """Return an attempt that was sent before the first refusal, of which more is known now."""
        attempt = self._early.get(number) or Attempt(at, in_flight)
        attempt.at, attempt.in_flight = at, in_flight
        for other, one in self._early.items():
            one.at = min(one.at, at) if other < number else max(one.at, at)
        return Spaced(number, attempt)

    # -- When the next may go ---------------------------------------------------------------------

    @property
    def period(self) -> float:
        """Return the seconds of the window that is believed in, 0 if none is."""
        return 0.0 if self.family is None else self.family.period

    def ready_at(self, now: float) -> float:
        """Return when the next may go: ``now`` if at once. Asked where somebody wants to send."""
        self.tick(now)
        at = max(now, self._paused_until)
        if self.rate is not None:
            if self.period:
                at = max(at, self._window_opens_at(now))
            if now >= self._catches_up_until:
                at = max(at, now + max(0.0, -self._level - 1e-9) / self.rate)
            if at > now:
                self._held_back_at = now
        return min(at, max(now, self._sent_at + LONGEST))

    def _window_opens_at(self, now: float) -> float:
        """Return when less was sent in the last period than a window was seen to take."""
        rate = self.base if now < self._catches_up_until else self.rate or self.base
        most = max(1, round(self.period * rate / _UNDER))
        window, span = self._window, self._window_span
        while window and (window[0].at <= now - span or not window[0].is_accepted):
            window.popleft()
        if len(window) < most:
            return now
        counted = [one.at for one in window if one.is_accepted]
        return now if len(counted) < most else counted[len(counted) - most] + span

    @property
    def _window_span(self) -> float:
        return self.period + min(_CLOCK, _CLOCK_SHARE * self.period)

    def take_doubt(self) -> float | None:
        """Return, once, when a probe is due: what was refused may have been sent too close."""
        at, self._doubt_at = self._doubt_at, None
        return at

    # -- What happens -----------------------------------------------------------------------------

    def sent(self, number: int, now: float, in_flight: int) -> Spaced:
        """Count an attempt that goes out."""
        self.tick(now)
        self._numbered, self._sent_at = number, now
        spaced = Spaced(number, Attempt(now, in_flight))
        self._keep(spaced.attempt)
        if self._row and self._candidate is None:
            self._candidate = spaced
        if self.rate is None:
            self._paused_until = max(self._paused_until, now + self._spread)
            return spaced
        if self.period:
            self._window.append(spaced.attempt)
        if self._row > 1:  # one canary at a time
            self._paused_until = now + max(1 / self.rate, self._silence)
        if self._unbounded_level < max(1.0, self._depth):
            spaced.rate, spaced.explores = self.rate, self._may_explore
            self._hold -= 1
            if spaced.explores:
                self._explore(self.rate)
        self._level -= 1.0
        self._unbounded_level = self._level
        return spaced

    def accepted(self, spaced: Spaced, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        self.tick(now)
        spaced.attempt.is_answered = True
        if self._candidate is not None and spaced.number >= self._candidate.number:
            self._reopen()
        is_early = self._row == 0 and self._numbered < self._early_until
        if self.rate is None and is_early and now >= self._looked_at + _LOOK_EVERY:
            self._looked_at = now
            self._ask_whether(_SHARE_ON)

    def refused(self, spaced: Spaced, now: float) -> bool:
        """Note a refusal for load; return whether the rate alone explains it."""
        self.tick(now)
        spaced.attempt.is_accepted = False
        self._refusals += 1
        took = min(now - spaced.attempt.at, 3 * self._refusal_time)
        self._refusal_time += _LATEST * (took - self._refusal_time)
        if spaced is self._candidate:
            self._candidate = None
        if self.rate is not None and not spaced.explores and self._is_of_cap(spaced):
            return False
        if spaced.number <= self._told_until:  # sent before the last refusal was heard: no news
            return self.rate is not None and spaced.explores
        self._told_until = self._numbered
        self._row += 1
        if self._row == 1:
            self._refused_since = spaced.attempt.at
        if self.rate is None:
            self._refused_unspaced(now)
            return False
        return self._refused_spaced(spaced, self.rate, now)

    def withdrawn(self, spaced: Spaced) -> None:
        """Note that an attempt was never sent, and so tells nothing."""
        for log in (self.log, self._window):
            if spaced.attempt in log:
                log.remove(spaced.attempt)
        if spaced is self._candidate:
            self._candidate = None

    def share(self, now: float) -> None:
        """Note that others were refused, too: nothing is spaced by this one alone for a while."""
        self.tick(now)
        self._cool_until = max(self._cool_until, now + _COOL)
        self._early_until = self._doubts = 0
        self._doubt_at, self._paused_until = None, now
        if self.rate is not None:
            self._believe_no_more("others of the account are refused, too")

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        if now > self._now:
            if self.rate is not None:
                self._fill(self.rate, now)
            self._now = now
        candidate = self._candidate
        if candidate is not None and now >= candidate.attempt.at + self._silence:
            self._reopen()

    def _fill(self, rate: float, now: float) -> None:
        since = max(self._now, self._paused_until)
        if now > since:
            self._unbounded_level = self._level + (now - since) * rate
            self._level = min(self._depth, self._unbounded_level)
        if now - self._held_back_at > max(_IDLE, self.period):
            self._believe_no_more("nothing was held back")

    def _keep(self, attempt: Attempt) -> None:
        log = self.log
        while len(log) >= LOG_MOST or (len(log) >= JUDGED and log[0].at < attempt.at - _LOG_TIME):
            self._refusals -= not log.popleft().is_accepted
            self._is_complete = False
            self._early.clear()
        log.append(attempt)

    @property
    def _silence(self) -> float:
        """Return the seconds after which an attempt that was not refused counts as accepted."""
        return min(_SILENCE_MOST, _SILENCE * self._refusal_time)

    @property
    def _spread(self) -> float:
        """Return how far sends are spread in the early days."""
        if self._numbered >= self._early_until:
            return 0.0
        if self._row:
            return self._silence
        accepted = sum(one.is_accepted for one in self.log)
        return min(_SPREAD, (self._now - self._born) / max(1, accepted) / 4)

    def _is_of_cap(self, spaced: Spaced) -> bool:
        return spaced.attempt.in_flight >= ceiling_of(self._decided[-JUDGED:])

    def _refused_unspaced(self, now: float) -> None:
        if self._numbered < self._early_until and self._doubts:
            self._doubts -= 1
            self._doubt_at = now + self._silence
        self._ask_whether(_SHARE_EARLY)
        if self.rate is not None or self._row < 3:
            return
        if now < self._cool_until or not self._is_complete:
            return
        if unexplained_by_cap(self._decided) >= _GAIN_ON:
            wait = min(_CLOSED_MOST, max(self._silence, 2 * (now - self._refused_since)))
            usual = (self._born + period + 2 * _CLOCK for period in _USUAL_WINDOWS)
            self._paused_until = min(at for at in (*usual, now + wait) if at > now)

    def _refused_spaced(self, spaced: Spaced, rate: float, now: float) -> bool:
        is_first = self._row == 1
        if is_first and spaced.rate == 0.0:
            return False
        self._held_back_at = now
        if is_first:
            self._level = min(self._level, 0.0) - 1.0
            self._ask_again(spaced, rate)
            if self.rate is None:
                return False
        else:
            wait = max(1 / rate, now - self._refused_since)
            self._paused_until = now + min(_PAUSE_MOST, wait)
        return spaced.explores or not is_first

    def _reopen(self) -> None:
        self._candidate, self._row = None, 0
        if self.rate is None:
            self._ask_whether(_SHARE_ON)

    # -- What the log says ------------------------------------------------------------------------

    @property
    def _decided(self) -> list[Attempt]:
        """Return the log without those of which nothing can be known yet."""
        since = self._now - self._silence
        return [
            one for one in self.log if one.at <= since or one.is_answered or not one.is_accepted
        ]

    def _ask_whether(self, share: float) -> None:
        """Ask the log for a rate; it may leave a ``share`` of what a cap leaves unexplained."""
        if self._now < max(self._cool_until, self._asked_at + ASK_EVERY):
            return
        if self._refusals < _LEAST_REFUSALS:
            return
        log = self._decided
        by_cap = unexplained_by_cap(log)
        if by_cap < _GAIN_ON:
            return
        self._asked_at = self._now
        found = explain(log, is_complete=self._is_complete)
        left = found.unexplained
        if found.family.period:
            if share < _SHARE_ON:
                return
            share = _SHARE_WINDOW
        if by_cap - left < _GAIN_ON or left > share * by_cap:
            return
        if share_unexplained_by_cap(log) < _SHARE_OF_RATE or not _is_seen(found.family, log):
            return
        self._is_fresh, self._held_back_at = True, self._now
        self._believe(found.family, _UNDER * found.rate, hold=False)
        self._catches_up_until = self._now + found.family.period
        self.reason = f"a {found.family} leaves less unexplained than a cap on what is in flight"

    def _ask_again(self, spaced: Spaced, rate: float) -> None:
        """Ask the log after a refusal while a rate is believed."""
        tried = min(spaced.rate or rate, rate)
        family = self.family or Family(Kind.BUCKET, 1.0)
        self._strikes = 0 if spaced.explores else self._strikes + 1
        self._struck_at = rate if self._strikes == 1 else self._struck_at
        if self._strikes and self._falls_back(rate):
            return
        if self._now < self._asked_at + ASK_EVERY:
            self._believe(family, _CUT * min(tried, _NEAR * self.base), hold=True)
            return
        self._asked_at = self._now
        log = self._decided
        taken = None if spaced.explores else taken_under_pressure(log)
        if taken is not None and self._numbered >= self._pressed_at + PRESSED // 2:
            self._strikes, self._pressed_at = 0, self._numbered
            self._believe(
                Family(Kind.BUCKET, 1.0), min(rate, max(_UNDER * taken, rate / 2)), hold=True
            )
            return
        self._believe_log(log, spaced, tried, rate, family)

    def _falls_back(self, rate: float) -> bool:
        """Go back to the rate that held before the last exploration, once, if it was lower."""
        held, self._held = self._held, None
        if held is None or held[1] >= rate:
            return False
        self._believe(*held, hold=True)
        return True

    def _believe_log(
        self, log: list[Attempt], spaced: Spaced, tried: float, rate: float, family: Family
    ) -> None:
        """Believe what the log says after a refusal at ``rate``, or no rate any more."""
        is_far = spaced.explores and tried > _FAR * self.base
        found = explain(log, None if is_far else tried, family, is_complete=self._is_complete)
        by_cap, left = unexplained_by_cap(log), found.unexplained
        recent = log[-JUDGED:]
        lost = sum(not one.is_accepted for one in recent)
        is_of_cap = share_unexplained_by_cap(log) < _SHARE_OF_CAP
        is_of_cap = is_of_cap and self._refusals >= _LEAST_REFUSALS
        if is_of_cap or (lost >= _LEAST_REFUSALS and by_cap <= left - _CAP_BETTER):
            self._believe_no_more("a cap on what is in flight explains the refusals better")
            return
        is_unexplained = left > _SHARE_OFF * by_cap and by_cap >= _CAP_UNEXPLAINED
        if is_unexplained and lost < _NOISE * len(recent):
            self._disbelieve("neither a rate nor a cap explains the refusals")
            return
        if self._strikes > _STRIKES and rate < _STRUCK * self._struck_at:
            self._disbelieve("refused again and again below the rate: it is shared with others")
            return
        new = _UNDER * found.rate
        if is_unexplained:
            new = min(rate, (len(recent) - lost) / max(recent[-1].at - recent[0].at, 1e-3))
        elif by_cap - left < _NEWS and not is_far:
            new = _CUT * min(tried, _NEAR * self.base)
        else:
            family = found.family
        self._believe(family, new if spaced.explores else min(new, rate), hold=True)

    def _believe(self, family: Family, rate: float, *, hold: bool) -> None:
        self.family, self.rate, self.base = family, rate, rate
        self._is_fresh = self._is_fresh and not hold
        self._depth = 1.0 if family.period else min(1.0, family.size - 1)
        self._hold, self._hold_until = 0, self._now
        if hold:
            self._hold, self._hold_until = _HOLD, self._now + max(_HOLD_TIME, family.period)
            self._holds_most_until = self._now + max(_HOLD_MOST, family.period)
            if family.period:
                self._hold = min(_HOLD, max(_HOLD_LEAST, int(2 * family.period * rate)))
        if family.period:
            since = self._now - self._window_span
            self._window = deque(one for one in self.log if one.at > since)
        self._explored_since = None
        self._level = min(self._level, 0.0)

    def _disbelieve(self, reason: str) -> None:
        self._cool = min(_COOL_MOST, 2 * self._cool) if self._cool else _COOL
        self._cool_until = self._now + self._cool
        self._believe_no_more(reason)

    def _believe_no_more(self, reason: str) -> None:
        self.rate, self.family, self._row, self.reason = None, None, 0, reason
        self._strikes = 0
        self._window.clear()

    # -- Exploration ------------------------------------------------------------------------------

    @property
    def _may_explore(self) -> bool:
        has_held = self._hold <= 0 or self._now >= self._holds_most_until
        return has_held and self._now >= self._hold_until and self._row == 0

    def _explore(self, rate: float) -> None:
        if self._explored_since is None:
            self._explored_since = self._now
            self._held = None if self.family is None else (self.family, self.base)
        took = self._now - self._explored_since
        factor = _FRESH if self._is_fresh else 1.0
        gained = factor * _GROW * self.base + _GROW_GAINED * (rate - self.base)
        if not self.period:
            gained = max(gained, self.base * min(1.0, 1 / rate / _GROWS_IN))
        most = factor * _GROW_MOST if rate > 1 else math.inf
        farthest = min(_FARTHEST, 2.0 ** min(20.0, 1 + took / _DOUBLES_IN))
        if self.period:
            periods = took // (self.period * (_FRESH_PERIOD if self._is_fresh else 1.0))
            farthest = min(farthest, 1 + _GROW_WINDOW * 2.0 ** min(20.0, periods))
        self.rate = max(rate, min(rate + min(gained, most), self.base * farthest))


def _is_seen(family: Family, log: list[Attempt]) -> bool:
    """Tell whether a log shows a bucket's rate, and not only its depth.

    A process that hardly sends, because others take what there is, sees a deep bucket that fills
    slowly.
    """
    if family.period or family.size <= 1:
        return True
    return sum(one.is_accepted for one in log) >= _DEPTHS * family.size
