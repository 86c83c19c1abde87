"""Share request and share reply: a member's exchange with the script. Pure.

Values read from Redis may have been written by anybody: numbers are clamped to their bounds, and
anything else than a number invalidates the reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .scope import Keys

#: Shares, limits and numbers of members are capped at this.
MOST: Final = 1_000_000
#: The longest text of a state that is accepted; one of ours has some 300 characters.
MOST_STATE: Final = 8_192
_LATEST: Final = 10**15
_FIELDS: Final = 12


class StoreError(Exception):
    """No usable reply; the message says why, without a secret."""


NO_REPLY: Final = "Redis returned something other than a reply of the script"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A new limit and the algorithm's state, wanted only if ``version`` is still the latest."""

    version: int
    limit: int
    epoch: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRequest:
    """A member's figures; times in seconds, and ``rate`` in attempts per second.

    A fleet of which nothing is known starts with ``limit``. A ``ttl`` of 0: the member leaves.
    """

    member: str
    in_use: int = 0
    want: int = 0
    share: int = 0
    epoch: int = 0
    rate: float = 0.0
    ttl: float = 0.0
    learn: float = 0.0
    limit: int = 1
    commit: Commit | None = None

    def arguments(self) -> list[str]:
        """Return the arguments of the script."""
        new = self.commit
        commit = (new.version, new.limit, new.epoch, new.state) if new else ("", "", "", "")
        times = (f"{self.rate:.3f}", round(self.ttl * 1000), round(self.learn * 1000))
        slots = (self.in_use, self.want, self.share, self.epoch)
        return [self.member, *map(str, (*slots, *times, self.limit, *commit))]


@dataclass(frozen=True, slots=True)
class Addressed:
    """A request with the keys of its scope; its reply is capped at ``maximum``."""

    keys: Keys
    request: ShareRequest
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareReply:
    """The script's reply. ``now`` is the time in Redis in seconds, for differences only.

    ``in_use`` and ``rate`` are the other members', ``lagging`` how many of them do not know this
    epoch yet. ``contended``: the members want more than the limit.
    """

    share: int
    limit: int
    version: int
    epoch: int
    members: int
    in_use: int
    lagging: int
    rate: float
    now: float
    committed: bool
    contended: bool
    state: str


def parse_share_reply(raw: object, maximum: int) -> ShareReply | None:
    """Return the reply, with share and limit at most ``maximum``; ``None`` if it is invalid."""
    texts = texts_in(raw, _FIELDS)
    if texts is None:
        return None
    *numbers, state = texts
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        return None
    if len(state) > MOST_STATE or not all(0 <= value <= _LATEST for value in values):
        return None
    share, limit, version, epoch, members, in_use, lagging, rate, now, committed, contended = values
    limit = min(int(limit), maximum)
    return ShareReply(
        share=min(int(share), limit),
        limit=limit,
        version=int(version),
        epoch=int(epoch),
        members=max(1, min(int(members), MOST)),
        in_use=min(int(in_use), MOST),
        lagging=min(int(lagging), MOST),
        rate=min(rate, MOST),
        now=now / 1000,
        committed=bool(committed),
        contended=bool(contended),
        state=state,
    )


def texts_in(raw: object, number: int) -> list[str] | None:
    """Return the texts of a list of that many numbers and texts; ``None`` if it is none."""
    if not isinstance(raw, (list, tuple)) or len(raw) != number:
        return None
    try:
        texts = [value.decode() if isinstance(value, bytes) else value for value in raw]
    except UnicodeDecodeError:
        return None
    are_plain = all(isinstance(text, (int, str)) for text in texts)
    return [str(text) for text in texts] if are_plain else None
