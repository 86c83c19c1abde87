"""Keywords in `help()`, in an editor, and in the words of a refusal."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, Final, get_type_hints

import openai
import pytest

from comet_resilience import Config, ResilientTransport, override, wrap
from comet_resilience.config import described
from comet_resilience.overrides import PER_CALL, UNCHANGED

KEYWORDS: Final = fields(Config)
DECLARATIONS: Final[dict[str, Callable[..., Any]]] = {
    "wrap": wrap,
    "override": override,
    "ResilientTransport": ResilientTransport.__init__,
}


def expected_of(name: str) -> dict[str, Field[Any]]:
    """Return the fields of ``Config`` that a declaration has to spell out."""
    only = PER_CALL if name == "override" else {declared.name for declared in KEYWORDS}
    return {declared.name: declared for declared in KEYWORDS if declared.name in only}


def spelled_out(name: str) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a declaration."""
    parameters = inspect.signature(DECLARATIONS[name]).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_signatures_are_those_of_the_configuration(name: str) -> None:
    """Each has the same keywords in the same order, with the types and defaults of `Config`."""
    expected, shown = expected_of(name), spelled_out(name)
    assert list(shown) == list(expected)
    hints, types = get_type_hints(DECLARATIONS[name]), get_type_hints(Config)
    for keyword, declared in expected.items():
        assert hints[keyword] == types[keyword], keyword
        default = UNCHANGED if name == "override" else declared.default
        assert shown[keyword].default == default, keyword


@pytest.mark.parametrize(
    ("name", "thing"), {**DECLARATIONS, "ResilientTransport": ResilientTransport}.items()
)
def test_docstrings_say_what_each_keyword_means(name: str, thing: Any) -> None:
    """In the words of its declaration, with unit and bounds."""
    words = " ".join((inspect.getdoc(thing) or "").split())
    for keyword, declared in expected_of(name).items():
        assert f" {keyword}: {described(declared)}" in words


def test_help_shows_them() -> None:
    """`help(wrap)` names keywords, defaults and meanings, and the functions by their names."""
    shown = pydoc.plain(pydoc.render_doc(wrap))
    assert "max_retries: 'int' = 6" in shown
    assert "max_retries: Retries after the first attempt" in shown
    assert (wrap.__name__, override.__name__) == ("wrap", "override")
    assert "deadline: 'float | None' = unchanged" in pydoc.plain(pydoc.render_doc(override))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("max_retry", "max_retries"),
        ("max_concurency", "max_concurrency"),
        ("queue_time", "queue_timeout"),
        ("backoff_factor", "backoff_max"),
        ("timeout", "deadline|stall"),
    ],
)
@pytest.mark.parametrize("name", DECLARATIONS)
def test_an_unknown_keyword_says_which_was_meant(name: str, wrong: str, meant: str) -> None:
    """Whichever of the three it is given to."""
    given: dict[str, Any] = {wrong: 1}
    calls: dict[str, Callable[[], object]] = {
        "wrap": lambda: wrap(openai.AsyncOpenAI(api_key="k"), **given),
        "override": lambda: override(**given),
        "ResilientTransport": lambda: ResilientTransport(**given),
    }
    with pytest.raises(TypeError, match=rf"{wrong}.*did you mean .*{meant}"):
        calls[name]()


def test_a_keyword_like_no_other_is_told_all_that_there_are() -> None:
    """Nothing is guessed where nothing is near."""
    with pytest.raises(TypeError, match=r"'colour': expected one of .*max_retries") as refused:
        wrap(openai.AsyncOpenAI(api_key="k"), colour=60)  # type: ignore[call-arg]
    assert "did you mean" not in str(refused.value)
