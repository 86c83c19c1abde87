"""Trust in a limit that a server reports: does it apply to this caller at all? Pure.

Behind a gateway, headers and messages often describe *its* account with a provider, another one
from response to response. Only a refusal confirms a limit, and only exceeding it disproves it. So a
limit that would hold requests back does so for a moment, and is then tested: two requests are sent
all the same. If one is refused by a response that reports the same limit, the limit is confirmed
and binds. If none is, it binds nobody for a minute, then for two, and so on. What no refusal has
confirmed never holds anybody back for longer than that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Seconds for which a limit binds before its test, a delay that a caller hardly notices. A limit
#: that was disproved before is tested at once.
UNTESTED: Final = 1.0
#: Requests that test a limit: servers round down, so that one may go through.
_TESTS: Final = 2
#: Seconds after which a test counts as accepted: nearly all refusals arrive sooner, and a later one
#: still confirms the limit.
SILENCE: Final = 0.5
#: Refusals beyond the limit that confirm it although they do not report it.
_BARE: Final = 3
#: Attempts beyond a limit that are kept.
_BEYOND_KEPT: Final = 16
#: Seconds for which a disproved limit binds nobody, doubled each time up to 64 minutes.
_DISTRUST: Final = 60.0
_DISTRUST_MOST: Final = 3_840.0


@dataclass(slots=True, eq=False)
class Trust:
    """The evidence for and against one limit; attempts are identified by their numbers."""

    is_confirmed: bool = False
    distrusted_until: float = 0.0
    _distrust: float = _DISTRUST
    _binds_since: float | None = None
    _beyond: dict[int, bool] = field(default_factory=dict)  # attempt -> is it a test
    _passed: int = 0
    _tested_at: float = 0.0
    _bare: int = 0

    def is_off(self, now: float) -> bool:
        """Return True while the limit binds nobody, because it was disproved."""
        return now < self.distrusted_until

    def until(self, now: float, opens_at: float) -> float:
        """Return when an attempt may go that the limit would allow at ``opens_at``.

        It is ``now`` if that attempt is a test.
        """
        if self.is_confirmed:
            return opens_at
        if self._binds_since is None:
            self._binds_since = now
        tested_at = self._binds_since + (UNTESTED if self._distrust == _DISTRUST else 0.0)
        if self._is_tested:
            tested_at = self._tested_at + SILENCE
        return min(opens_at, max(now, tested_at))

    def sent_beyond(self, number: int, now: float, *, is_test: bool) -> None:
        """Note that an attempt is sent beyond the limit.

        It ``is_test`` if such a limit is sure to refuse it.
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

    def refused(self, number: int, *, confirms: bool) -> None:
        """Note a refusal; it ``confirms`` the limit if it reports the same one."""
        self._bare += self._beyond.pop(number, None) is not None
        if confirms or self._bare >= _BARE:
            self.confirm()

    def withdrawn(self, number: int) -> None:
        """Forget an attempt that tests nothing: never sent, or failed in another way."""
        self._beyond.pop(number, None)

    def tick(self, now: float) -> None:
        """Count tests without a refusal for ``SILENCE`` seconds as accepted."""
        if self._is_tested and now >= self._tested_at + SILENCE:
            self.disprove(now)

    def confirm(self) -> None:
        """Let the limit bind from now on."""
        self.is_confirmed = True
        self.distrusted_until = 0.0
        self._forget_tests()

    def disprove(self, now: float) -> None:
        """Suspend the limit for a while, longer each time."""
        self.is_confirmed, self._binds_since = False, None
        self._forget_tests()
        self.distrusted_until = now + self._distrust
        self._distrust = min(_DISTRUST_MOST, 2 * self._distrust)

    @property
    def _is_tested(self) -> bool:
        """Return True if enough attempts exceeded the limit to decide."""
        return self._passed + sum(self._beyond.values()) >= _TESTS

    def _forget_tests(self) -> None:
        self._beyond.clear()
        self._passed = self._bare = 0
