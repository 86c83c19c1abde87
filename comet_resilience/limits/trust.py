"""Trust in a limit that a server tells: is it about this caller at all? Pure.

Behind a gateway, headers and messages often tell of *its* account with a provider, another one from
answer to answer. Only a refusal proves a limit, and only going beyond it disproves it. So a limit
that would hold requests back is kept to for a moment and then tested: two requests go all the same.
If one is refused, and the refusal tells the same limit, it is kept to from then on. If none is, it
binds nobody for a minute, then for two, and so on. Nobody is ever held back for longer than that
moment by what no refusal has confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Seconds for which a limit binds before it is tested; one that was disproved is tested at once.
UNTESTED: Final = 1.0
#: Requests that test a limit: a server rounds down, and one of them may go through.
_TESTS: Final = 2
#: Seconds after which a test is accepted by silence: nearly all refusals come sooner, and one that
#: comes later confirms the limit all the same.
SILENCE: Final = 0.5
#: Refusals of tests in a row that confirm a limit although they tell none themselves.
_BARE: Final = 3
#: Attempts beyond a limit that are remembered.
_BEYOND_KEPT: Final = 16
#: Seconds for which a limit that was disproved binds nobody: doubled each time.
_DISBELIEF: Final = 60.0
_DISBELIEF_MOST: Final = 3_840.0


@dataclass(slots=True, eq=False)
class Trust:
    """The evidence for and against one limit; attempts are named by their numbers."""

    is_confirmed: bool = False
    disbelieved_until: float = 0.0
    _disbelief: float = _DISBELIEF
    _binds_since: float | None = None
    _beyond: dict[int, bool] = field(default_factory=dict)  # and whether it is a test
    _passed: int = 0
    _tested_at: float = 0.0
    _bare: int = 0

    def is_off(self, now: float) -> bool:
        """Tell whether the limit binds nobody, because it was disproved."""
        return now < self.disbelieved_until

    def until(self, now: float, opens_at: float) -> float:
        """Return when the next may go, of which the limit says that it may at ``opens_at``.

        It is ``now`` where the next is a test.
        """
        if self.is_confirmed:
            return opens_at
        if self._binds_since is None:
            self._binds_since = now
        tested_at = self._binds_since + (UNTESTED if self._disbelief == _DISBELIEF else 0.0)
        if self._is_tested:
            tested_at = self._tested_at + SILENCE
        return min(opens_at, max(now, tested_at))

    def sent_beyond(self, number: int, now: float, *, is_test: bool) -> None:
        """Note that an attempt goes out of which the limit says that it may not.

        It ``is_test`` if it is sure to be refused by such a limit.
        """
        if self.is_confirmed or self.is_off(now) or len(self._beyond) >= _BEYOND_KEPT:
            return
        is_test = is_test and not self._is_tested
        self._beyond[number] = is_test
        if is_test:
            self._tested_at = now

    def accepted(self, number: int, now: float) -> None:
        """Note that an attempt was not refused."""
        if self._beyond.pop(number, False):
            self._passed += 1
            if self._passed >= _TESTS:
                self.disprove(now)

    def refused(self, number: int, *, tells_same: bool) -> None:
        """Note that an attempt was refused, by an answer that tells the same limit or does not."""
        self._bare += self._beyond.pop(number, None) is not None
        if tells_same or self._bare >= _BARE:
            self.confirm()

    def withdrawn(self, number: int) -> None:
        """Note that an attempt tests nothing: it was never sent, or failed in another way."""
        self._beyond.pop(number, None)

    def tick(self, now: float) -> None:
        """Take tests for accepted that are silent for too long."""
        if self._is_tested and now >= self._tested_at + SILENCE:
            self.disprove(now)

    def confirm(self) -> None:
        """Keep to the limit from now on."""
        self.is_confirmed = True
        self.disbelieved_until = 0.0
        self._forget_tests()

    def doubt(self) -> None:
        """Test the limit again before it is kept to any longer."""
        self.is_confirmed = False
        self._binds_since = None
        self._forget_tests()

    def disprove(self, now: float) -> None:
        """Let the limit bind nobody for a while, longer each time."""
        self.doubt()
        self.disbelieved_until = now + self._disbelief
        self._disbelief = min(_DISBELIEF_MOST, 2 * self._disbelief)

    @property
    def _is_tested(self) -> bool:
        """Tell whether enough went beyond the limit to find out."""
        return self._passed + sum(self._beyond.values()) >= _TESTS

    def _forget_tests(self) -> None:
        self._beyond.clear()
        self._passed = self._bare = 0
