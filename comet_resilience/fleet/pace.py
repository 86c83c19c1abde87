"""The times at which a member renews its share. Pure: seconds in, seconds out."""

from __future__ import annotations

from typing import Final

#: Seconds between two renewals when idle; and how long a share lasts without one.
RENEW_EVERY: Final = 0.5
RENEW_SPREAD: Final = 0.1
TTL: Final = 3.0
#: A share is used for this part of its time to live, counted from the request.
KEPT: Final = 0.8
#: How soon another renewal may follow: for a sample or a new waiting request; again while it
#: waits; for a share that is unused here and wanted by others.
GAP: Final = 0.02
WAITING_GAP: Final = 0.1
SURPLUS_GAP: Final = 0.05
#: With many members each renews less often: these seconds times their number, when idle or
#: waiting, with a surplus, and with a sample to report.
PER_MEMBER: Final = 0.01
SURPLUS_PER_MEMBER: Final = 0.002
GAP_PER_MEMBER: Final = 0.0005
TTL_RENEWALS: Final = 3.0
#: Renewals due within this part of their interval go into the same command as one due now.
SOON: Final = 1 / 3
#: For this many renewals after a restart of Redis members claim their former shares.
LEARN_RENEWALS: Final = 1.5
#: A share that is neither used nor wanted for so many seconds is returned.
IDLE: Final = 30.0


def renew_every(members: int) -> float:
    """Return the seconds between two renewals in a fleet of that many members."""
    return max(RENEW_EVERY, members * PER_MEMBER)


def time_to_live(members: int) -> float:
    """Return the seconds for which a share lasts."""
    return max(TTL, TTL_RENEWALS * renew_every(members))


def next_renewal(
    members: int,
    jitter: float,
    *,
    is_urgent: bool,
    is_waiting: bool,
    is_new: bool,
    has_surplus: bool,
) -> float:
    """Return the seconds from the last renewal to the next one; ``jitter`` is in [0, 1).

    ``is_urgent``: there is a sample to report at once. ``is_waiting``: a request waits for a slot;
    ``is_new``: none did at the last renewal. ``has_surplus``: half of the share is unused, and
    others want it.
    """
    regular = renew_every(members) * (1 + RENEW_SPREAD * (2 * jitter - 1))
    soon = max(GAP, members * GAP_PER_MEMBER)
    if is_urgent or (is_waiting and is_new):
        return soon
    if is_waiting:
        return min(regular, max(WAITING_GAP, members * PER_MEMBER) * (0.5 + jitter))
    if has_surplus:
        return min(regular, max(SURPLUS_GAP, members * SURPLUS_PER_MEMBER))
    return regular
