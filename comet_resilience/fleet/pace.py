"""The times at which a member renews its share. Pure: seconds in, seconds out."""

from __future__ import annotations

from typing import Final

#: Seconds between two renewals, if nothing happens; and how long a share lasts without one.
RENEW_EVERY: Final = 0.5
RENEW_SPREAD: Final = 0.1
TTL: Final = 3.0
#: A share is used until this part of its time has passed since it was asked for.
KEPT: Final = 0.8
#: How soon after the last renewal another may follow: for a sample and for those who wait; again
#: and again for those who still wait; for a share that others want and nobody uses here.
GAP: Final = 0.02
HUNGRY_GAP: Final = 0.1
SURPLUS_GAP: Final = 0.05
#: With many members each comes less often: no sooner than so many seconds for each of them, if
#: nothing happens, with a surplus, and with a sample to report.
PER_MEMBER: Final = 0.01
SURPLUS_PER_MEMBER: Final = 0.002
GAP_PER_MEMBER: Final = 0.0005
TTL_RENEWALS: Final = 3.0
#: What is due within this part of its time goes along with what is due now, in one command.
SOON: Final = 1 / 3
#: After a restart of Redis members claim what they had, for so many renewals.
LEARN_RENEWALS: Final = 1.5
#: What is neither used nor wanted for so long is given back.
IDLE: Final = 30.0


def renew_every(members: int) -> float:
    """Return the seconds between two renewals in a fleet of so many."""
    return max(RENEW_EVERY, members * PER_MEMBER)


def time_to_live(members: int) -> float:
    """Return the seconds for which a share lasts."""
    return max(TTL, TTL_RENEWALS * renew_every(members))


def next_renewal(
    members: int,
    jitter: float,
    *,
    is_urgent: bool,
    is_hungry: bool,
    is_new: bool,
    has_surplus: bool,
) -> float:
    """Return the seconds from the last renewal to the next one; ``jitter`` is in [0, 1).

    ``is_urgent`` says that there is something to tell at once, ``is_hungry`` that somebody waits
    for a slot, ``is_new`` not since before the last renewal, and ``has_surplus`` that half of a
    share which others want is not used.
    """
    regular = renew_every(members) * (1 + RENEW_SPREAD * (2 * jitter - 1))
    soon = max(GAP, members * GAP_PER_MEMBER)
    if is_urgent or (is_hungry and is_new):
        return soon
    if is_hungry:
        return min(regular, max(HUNGRY_GAP, members * PER_MEMBER) * (0.5 + jitter))
    if has_surplus:
        return min(regular, max(SURPLUS_GAP, members * SURPLUS_PER_MEMBER))
    return regular
