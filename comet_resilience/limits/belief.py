"""What is believed of a rate below one limit: three states, and what leads from one to another.

* ``Listening``: no rate is believed. Once a log of attempts is explained clearly better by a rate
  than by the best cap on what is in flight, it is kept to (``first``).
* ``Keeping``: sends keep to a rate, a little below the one that explains the log, for as long as
  some dozens of sends take.
* ``Trying``: then each send goes a little faster than the one before (``faster``).

A refusal leads from the last two to ``Keeping`` a rate that the log gives, or to ``Listening``
(``after_refusal``): one slightly lower than was refused, at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from .attempt_log import JUDGED, Attempt
from .explanations import Family, explain, share_unexplained_by_cap, unexplained_by_cap

#: What a cap has to leave unexplained at least, and more than a rate does, if that is believed (a
#: cap that wanders leaves some, too); and the share of it that the rate may leave. Less for a
#: window, which holds back for long.
GAIN_LEAST: Final = 5.0
_SHARE: Final = 0.25
_SHARE_WINDOW: Final = 0.1
#: Of each refusal in all of the log, what a cap has to leave. A window is refused in bursts, of
#: which a cap explains most.
_SHARE_OF_RATE: Final = 0.25
_SHARE_OF_WINDOW: Final = 0.1
#: How many refusals it takes, and how often the depth of a bucket has to be accepted: a process
#: that hardly sends, because others take what there is, sees a deep bucket that fills slowly.
_LEAST_REFUSALS: Final = 8
_DEPTHS: Final = 4
#: The share of a rate that is used, as an explanation is good to some percent; and of one that was
#: refused, at most.
UNDER: Final = 0.97
_CUT: Final = 0.96
#: A rate is kept to for the time of so many sends, so many seconds at most, or a window's length:
#: one or two refusals for each such time are 2 in 100.
_KEEP: Final = 70
_KEEP_MOST: Final = 30.0
#: A trial gains with each send a share of the rate that was kept and of what was gained, and no
#: more than some requests a second; in a window, which is refused for the rest of its length, a
#: share in the first one, and four times as much in each that follows.
_GROW: Final = 0.01
_GROW_GAINED: Final = 0.08
_GROW_MOST: Final = 0.15
_GROW_WINDOW: Final = 0.08
#: A rate is given up where a cap leaves less than such a share of all refusals; where a rate, too,
#: leaves so much of what a cap does, that is so much at least, and few are refused: noise; where
#: what did not explore was refused more than so often in turn.
_SHARE_OF_CAP: Final = 0.1
_NOISE_LEFT: Final = 0.5
_NOISE_LEAST: Final = 2.8
_NOISE_REFUSED: Final = 0.1
_STRIKES: Final = 3
#: Seconds for which no rate is believed then, doubled each time.
COOL: Final = 60.0
_COOL_MOST: Final = 480.0


@dataclass(frozen=True, slots=True)
class Listening:
    """No rate is believed, nor will one be before ``until``, ``cool`` seconds after the last."""

    reason: str = ""
    until: float = 0.0
    cool: float = 0.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """Sends keep to a rate (requests a second) of some family ``until`` then.

    ``before`` held before the last trial. ``strikes`` counts refusals in turn of what did not
    explore, the first of them sent at ``struck_at``.
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
        """Return this: the same name as of a trial's."""
        return self


@dataclass(frozen=True, slots=True)
class Trying:
    """More than the rate that was ``kept`` is tried ``since`` then: ``rate``."""

    kept: Keeping
    rate: float
    since: float

    @property
    def reason(self) -> str:
        """Return why the rate moves, in words."""
        return "nothing was refused for a while: a little more is tried"

    @property
    def family(self) -> Family:
        """Return the kind of limit that is assumed."""
        return self.kept.family


Spaced: TypeAlias = Keeping | Trying
State: TypeAlias = Listening | Spaced


def first(log: Sequence[Attempt], state: Listening, now: float, *, is_complete: bool) -> State:
    """Return the state after a look at the log of a limit that is open."""
    by_cap = unexplained_by_cap(log)
    found = explain(log, is_complete=is_complete)
    share = _SHARE_WINDOW if found.family.period else _SHARE
    if by_cap - found.unexplained < GAIN_LEAST or found.unexplained > share * by_cap:
        return state
    if not _shows(log, found.family):
        return state
    reason = f"a {found.family} explains the refusals better than a cap on what is in flight"
    return Keeping(reason, found.family, UNDER * found.rate, now, cool=state.cool)


def _shows(log: Sequence[Attempt], family: Family) -> bool:
    """Tell whether there is enough in a log to show a rate at all.

    It has to reach back well beyond the time of an answer: within that, the slots of a cap that
    come free one by one look like a bucket that fills.
    """
    in_flight = sorted(one.in_flight for one in log[-JUDGED:])
    if 2 * in_flight[len(in_flight) // 2] > len(in_flight):
        return False
    accepted = sum(one.is_accepted for one in log)
    least = _SHARE_OF_WINDOW if family.period else _SHARE_OF_RATE
    if len(log) - accepted < _LEAST_REFUSALS or share_unexplained_by_cap(log) < least:
        return False
    return family.period > 0 or family.size <= 1 or accepted >= _DEPTHS * family.size


def faster(state: Spaced, now: float) -> Spaced:
    """Return the state after a send that a rate held back."""
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
    """Return the state after a refusal; without a ``log`` where it was asked just now."""
    tried = min(refused.rate or state.rate, state.rate)
    kept = _counted(state, refused)
    if isinstance(state, Keeping) and kept.strikes and (before := state.before) is not None:
        kept = replace(kept, before=None)
        if tried / 2 < before.rate < tried:
            return _keep(kept, before.family, before.rate, now)
    cut = _CUT * tried
    if log is None:
        return _keep(kept, kept.family, cut, now)
    found = explain(log, tried, kept.family, is_complete=is_complete)
    if given_up := _gives_up(kept, log, found.unexplained, now):
        return given_up
    rate = min(cut, UNDER * found.rate)
    if kept.strikes > 1:
        since = [one for one in log if one.at > kept.struck_at]
        taken = sum(one.is_accepted for one in since) / max(now - kept.struck_at, 1e-3)
        rate = min(rate, max(taken, state.rate / 2))
    return _keep(kept, found.family, rate, now)


def _counted(state: Spaced, refused: Attempt) -> Keeping:
    """Return the rate that was kept, with what a refusal tells of it."""
    kept = replace(state.kept, reason=f"refused at about {60 * state.rate:.0f} a minute")
    if refused.explores:
        return replace(kept, before=replace(state.kept, before=None), strikes=0)
    if kept.strikes:
        return replace(kept, strikes=kept.strikes + 1)
    return replace(kept, strikes=1, struck_at=refused.at)


def _keep(kept: Keeping, family: Family, rate: float, now: float) -> Keeping:
    until = now + max(family.period, min(_KEEP_MOST, _KEEP / rate))
    return replace(kept, family=family, rate=rate, until=until)


def _gives_up(kept: Keeping, log: Sequence[Attempt], left: float, now: float) -> Listening | None:
    """Return the state in which a rate is believed no more, if it explains too little."""
    refused = sum(not one.is_accepted for one in log)
    if refused >= _LEAST_REFUSALS and share_unexplained_by_cap(log) < _SHARE_OF_CAP:
        return Listening("a cap on what is in flight explains the refusals better", now, kept.cool)
    by_cap, recent = unexplained_by_cap(log), log[-JUDGED:]
    is_rare = sum(not one.is_accepted for one in recent) < _NOISE_REFUSED * len(recent)
    is_left = by_cap >= _NOISE_LEAST and left > _NOISE_LEFT * by_cap
    if kept.strikes < 2 and is_rare and is_left:
        return _cooling("neither a rate nor a cap explains the refusals", kept, now)
    if kept.strikes > _STRIKES:
        return _cooling(
            "refused again and again below the rate: it is shared with others", kept, now
        )
    return None


def _cooling(reason: str, kept: Keeping, now: float) -> Listening:
    cool = min(_COOL_MOST, 2 * kept.cool) if kept.cool else COOL
    return Listening(reason, now + cool, cool)
