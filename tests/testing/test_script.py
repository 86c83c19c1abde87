"""Rules: which request gets which reply."""

from __future__ import annotations

import pytest

from comet_resilience.testing import Reply, failure
from comet_resilience.testing.received import ReceivedRequest
from comet_resilience.testing.script import Script


def _request(path: str = "/v1/chat/completions", model: str | None = "m") -> ReceivedRequest:
    return ReceivedRequest(number=1, at=0.0, method="POST", path=path, model=model)


def test_rules_run_out_in_order() -> None:
    """Rules are used in the order in which they were added, as often as they say."""
    script = Script()
    script.add("rate_limited", times=2, path=None, model=None)
    script.add(500, times=1, path=None, model=None)
    replies = [script.reply_to(_request()) for _ in range(4)]
    limited = failure("rate_limited")
    assert replies == [limited, limited, failure("server_error"), None]
    assert len(script) == 0


def test_staying_rules_come_last() -> None:
    """A rule for all requests waits until those that run out are used up."""
    script = Script()
    script.add("unavailable", times=None, path=None, model=None)
    script.add("ok", times=1, path=None, model=None)
    assert script.reply_to(_request()) is None
    assert script.reply_to(_request()) == script.reply_to(_request()) == failure("unavailable")
    script.clear()
    assert script.reply_to(_request()) is None


@pytest.mark.parametrize(
    ("path", "model", "matches"),
    [
        ("/chat/completions", None, True),
        ("/v1/chat/completions", "m", True),
        ("/chat/*", "m", True),
        ("/videos/*", None, False),
        (None, "other", False),
    ],
)
def test_rules_match_path_and_model(path: str | None, model: str | None, matches: bool) -> None:
    """A rule holds for its path, with or without /v1 and with wildcards, and for its model."""
    script = Script()
    script.add("bad_request", times=1, path=path, model=model)
    assert (script.reply_to(_request()) is not None) is matches


def test_a_function_sees_the_request() -> None:
    """A function may answer, or leave it to the gateway."""
    script = Script()
    script.add(
        lambda request: Reply(status=418) if request.model == "tea" else None,
        times=None,
        path=None,
        model=None,
    )
    assert script.reply_to(_request(model="tea")) == Reply(status=418)
    assert script.reply_to(_request()) is None


def test_mistakes_show_at_once() -> None:
    """An unknown name or a senseless number of times is an error where it is written."""
    with pytest.raises(ValueError, match="no failure called 'nope'"):
        Script().add("nope", times=1, path=None, model=None)
    with pytest.raises(ValueError, match="times"):
        Script().add("dropped", times=0, path=None, model=None)
    assert repr(Script()) == "<Script of 0 rules>"
