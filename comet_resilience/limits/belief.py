"""The rate that is learnt below one limit: three states and their transitions. Pure.

* ``Listening``: no rate is assumed. Once a rate explains a log of attempts clearly better than the
  best cap on attempts in flight does, sends keep to it (``learn``).
* ``Keeping``: sends keep to a rate a little below that one, for some dozens of sends.
* ``Trying``: each send goes a little faster than the one before (``after_send``).

A refusal leads from the last two to ``Keeping`` at a rate that the log supports, at most slightly
below the refused one, or back to ``Listening`` (``after_refusal``).

The constants were tuned with ``python -m tests.bench.rates``; the figures of the README are of
seeds that were not used for it. The optimum is flat: shares of 0.1 to 0.25, 60 to 80 kept sends and
8 to 12 % of what was gained differ by less than 0.01 of the throughput.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from .attempt_log import JUDGED, Attempt
from .explanations import (
    Family,
    explain,
    share_unexplained_by_cap,
    unexplained_by_cap,
    unexplained_by_moved_cap,
)

#: What the best cap has to leave unexplained, and leave more than the rate does, in recent
#: attempts: a cap that wanders leaves some, too.
MIN_GAIN: Final = 5.0
#: The share of that which the rate may leave; less for a window, which delays sends for long.
_SHARE: Final = 0.25
_SHARE_WINDOW: Final = 0.1
#: The share of all refusals in the log that the best cap has to leave. A window refuses in bursts,
#: most of which a cap explains.
_SHARE_OF_RATE: Final = 0.25
_SHARE_OF_WINDOW: Final = 0.1
#: What a cap that moved once has to leave more than the rate does (without: as little as 0.68 of
#: the throughput under a cap that jumps, and the same at every rate).
_MOVED_GAIN: Final = 0.5
#: Refusals that it takes, and how many times a bucket's depth has to be accepted: to a process that
#: others leave little, any bucket looks deep and slow.
_MIN_REFUSALS: Final = 8
_DEPTHS: Final = 4
#: The share of an explaining rate that is used, as an explanation is some percent off; and the most
#: that is used of a rate that was refused.
UNDER: Final = 0.97
_CUT: Final = 0.96
#: A rate is kept for the time of 70 sends, half a minute or a window's length: one or two refusals
#: each time are then 2 in 100.
_KEEP: Final = 70
_KEEP_MOST: Final = 30.0
#: A trial gains with each send 1 % of the kept rate and 8 % of what was gained, at most 0.15
#: requests a second; in a window 8 % in the first one and four times as much in each that follows,
#: because a refusal there costs the rest of the window.
_GROW: Final = 0.01
_GROW_GAINED: Final = 0.08
_GROW_MOST: Final = 0.15
_GROW_WINDOW: Final = 0.08
#: A rate is given up if the best cap leaves less than this share of all refusals,
_SHARE_OF_CAP: Final = 0.1
#: if the rate leaves more than this share of what the best cap leaves, that is at least so much,
#: and fewer than this share of recent attempts were refused (noise),
_NOISE_LEFT: Final = 0.5
_NOISE_LEAST: Final = 2.8
_NOISE_REFUSED: Final = 0.1
#: or after more than so many refusals in a row of attempts that did not explore.
_STRIKES: Final = 3
#: Seconds without a rate after the last two, doubled each time.
COOL: Final = 60.0
_COOL_MOST: Final = 480.0


@dataclass(frozen=True, slots=True)
class Listening:
    """No rate is assumed, nor will one be before ``until``, ``cool`` seconds after the last."""

    reason: str = ""
    until: float = 0.0
    cool: float = 0.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """Sends keep to a ``rate`` (requests a second) of a ``family`` of limits ``until`` a time.

    ``before`` is the state before the last trial. ``strikes`` counts the latest refusals in a row
    of attempts that did not explore, the first of them sent at ``struck_at``.
    """

    reason: str
    family: Family
    rate: float
    until: float
    before: Keeping | None = None
    strikes: int = 0
    struck_at: float = 0.0
    cool: float = 0.0

    @property
    def kept(self) -> Keeping:
        """Return this state, as ``Trying.kept`` does."""
        return self


@dataclass(frozen=True, slots=True)
class Trying:
    """A ``rate`` above the ``kept`` one is tried ``since`` a time."""

    kept: Keeping
    rate: float
    since: float

    @property
    def reason(self) -> str:
        """Return why the rate moved, in words."""
        return "nothing was refused for a while: a slightly faster rate is tried"

    @property
    def family(self) -> Family:
        """Return the assumed kind of limit."""
        return self.kept.family


Spaced: TypeAlias = Keeping | Trying
State: TypeAlias = Listening | Spaced


def learn(log: Sequence[Attempt], state: Listening, now: float, *, is_complete: bool) -> State:
    """Return the state after a look at the log: ``Keeping`` if that shows a rate.

    A cap that moved once must not explain it as well: a wrong rate holds sends back for minutes.
    """
    by_cap = unexplained_by_cap(log)
    found = explain(log, is_complete=is_complete)
    share = _SHARE_WINDOW if found.family.period else _SHARE
    is_better = by_cap - found.unexplained >= MIN_GAIN and found.unexplained <= share * by_cap
    if not is_better or not _is_enough(log, found.family):
        return state
    if unexplained_by_moved_cap(log) < found.unexplained + _MOVED_GAIN:
        return state
    reason = f"a {found.family} explains the refusals better than a cap on what is in flight"
    return Keeping(reason, found.family, UNDER * found.rate, now, cool=state.cool)


def _is_enough(log: Sequence[Attempt], family: Family) -> bool:
    """Return True if a log is long enough to show a rate.

    It has to reach back well beyond the time of an answer: within that, slots of a cap that are
    released one by one look like a bucket that fills.
    """
    in_flight = sorted(one.in_flight for one in log[-JUDGED:])
    if 2 * in_flight[len(in_flight) // 2] > len(in_flight):
        return False
    accepted = sum(one.is_accepted for one in log)
    least = _SHARE_OF_WINDOW if family.period else _SHARE_OF_RATE
    if len(log) - accepted < _MIN_REFUSALS or share_unexplained_by_cap(log) < least:
        return False
    return family.period > 0 or family.size <= 1 or accepted >= _DEPTHS * family.size


def after_send(state: Spaced, now: float) -> Spaced:
    """Return the state after a send that the rate delayed."""
    if isinstance(state, Keeping):
        if now < state.until:
            return state
        state = Trying(state, state.rate, now)
    kept = state.kept.rate
    if period := state.family.period:
        windows = min(20.0, (now - state.since) // period)
        return replace(state, rate=kept * (1 + _GROW_WINDOW * 4.0**windows))
    gained = min(_GROW * kept + _GROW_GAINED * (state.rate - kept), _GROW_MOST)
    return replace(state, rate=state.rate + gained)


def after_refusal(
    state: Spaced, refused: Attempt, log: Sequence[Attempt] | None, now: float, *, is_complete: bool
) -> State:
    """Return the state after a refusal; ``log`` is ``None`` if it was judged just now."""
    tried = min(refused.rate or state.rate, state.rate)
    kept = _with_strike(state, refused)
    if isinstance(state, Keeping) and kept.strikes and (before := state.before) is not None:
        # The trial went too far: 14.5 instead of 4.3 refusals per 100 at 60 a minute without this.
        kept = replace(kept, before=None)
        if tried / 2 < before.rate < tried:
            return _keep(kept, before.family, before.rate, now)
    cut = _CUT * tried
    if log is None:
        return _keep(kept, kept.family, cut, now)
    found = explain(log, tried, kept.family, is_complete=is_complete)
    if given_up := _give_up(kept, log, found.unexplained, now):
        return given_up
    rate = min(cut, UNDER * found.rate)
    if kept.strikes > 1:
        since = [one for one in log if one.at > kept.struck_at]
        taken = sum(one.is_accepted for one in since) / max(now - kept.struck_at, 1e-3)
        rate = min(rate, max(taken, state.rate / 2))
    return _keep(kept, found.family, rate, now)


def _with_strike(state: Spaced, refused: Attempt) -> Keeping:
    """Return the kept rate with the refusal counted."""
    kept = replace(state.kept, reason=f"refused at about {60 * state.rate:.0f} a minute")
    if refused.explores:
        return replace(kept, before=replace(state.kept, before=None), strikes=0)
    if kept.strikes:
        return replace(kept, strikes=kept.strikes + 1)
    return replace(kept, strikes=1, struck_at=refused.at)


def _keep(kept: Keeping, family: Family, rate: float, now: float) -> Keeping:
    until = now + max(family.period, min(_KEEP_MOST, _KEEP / rate))
    return replace(kept, family=family, rate=rate, until=until)


def _give_up(kept: Keeping, log: Sequence[Attempt], left: float, now: float) -> Listening | None:
    """Return ``Listening`` if the rate explains too little."""
    refused = sum(not one.is_accepted for one in log)
    if refused >= _MIN_REFUSALS and share_unexplained_by_cap(log) < _SHARE_OF_CAP:
        return Listening("a cap on what is in flight explains the refusals better", now, kept.cool)
    by_cap, recent = unexplained_by_cap(log), log[-JUDGED:]
    is_rare = sum(not one.is_accepted for one in recent) < _NOISE_REFUSED * len(recent)
    is_left = by_cap >= _NOISE_LEAST and left > _NOISE_LEFT * by_cap
    if kept.strikes < 2 and is_rare and is_left:
        return _cooling("neither a rate nor a cap explains the refusals", kept, now)
    if kept.strikes > _STRIKES:
        return _cooling("refused repeatedly below the rate: others share it", kept, now)
    return None


def _cooling(reason: str, kept: Keeping, now: float) -> Listening:
    cool = min(_COOL_MOST, 2 * kept.cool) if kept.cool else COOL
    return Listening(reason, now + cool, cool)
