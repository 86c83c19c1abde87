"""Bodies as they may be shown: settings stay, texts become their lengths, all is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.diagnosis.content import (
    KEPT,
    PARSED_UP_TO,
    as_json,
    is_embedded,
    media_in,
    parsed,
    secrets_of,
    shown_answer,
    texts_of,
)
from comet_resilience.diagnosis.redaction import SECRET, Redactor

NOTHING = Redactor()
#: No letter of it is in a name, a number or a word of ours.
PRIVATE = "\u4e09\u6708"
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 400

values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().map(lambda text: text + PRIVATE),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(values)
def test_whatever_is_shown_is_json_without_texts(value: object) -> None:
    """Of any shape and depth; with content wanted, it is JSON too."""
    shown = json.loads(as_json({"input": value}, NOTHING, content=False))
    assert PRIVATE not in json.dumps(shown, ensure_ascii=False)
    json.loads(as_json({"input": value}, NOTHING, content=True))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            {"model": "gpt-5.4", "n": 2, "stream": True},
            {"model": "gpt-5.4", "n": 2, "stream": True},
        ),
        ({"role": "please, tell me!"}, {"role": "[16 characters]"}),
        ({"prompt": "a cat"}, {"prompt": "[5 characters]"}),
        ({"metadata": {"name": "Ann"}}, {"metadata": "[1 fields]"}),
        ({"what I want": 1}, {"[name of 11 characters, 0]": 1}),
        ({"api_key": "x"}, {"api_key": SECRET}),
        ({"embedding": [0.1] * 9}, {"embedding": "[9 numbers]"}),
        ({"image": PICTURE}, {"image": "[base64, image/png, 3300 bytes]"}),
        ({"stop": ["a"] * 202}, {"stop": ["[1 characters]"] * 200 + ["[2 more]"]}),
    ],
)
def test_a_request_without_its_content(value: object, shown: object) -> None:
    """Settings as they are; of all else how long, how many, of which kind."""
    assert json.loads(as_json(value, NOTHING, content=False)) == shown


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "word " * 2_000}] * 300},
        {f"field_{n}": "x" * 100 for n in range(5_000)},
        [[["x"] * 300] * 300] * 300,
    ],
)
def test_a_large_body_is_cut_down_until_it_fits(value: object, content: bool) -> None:
    """Step by step; what is left is JSON."""
    shown = as_json(value, NOTHING, content=content)
    json.loads(shown)
    assert len(shown) <= KEPT


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"", ""),
        (b'{"error": {"message": "too long"}}', '{"error": {"message": "too long"}}'),
        (b'{"choices": [{"text": "hm"}]}', '{"choices": [{"text": "[2 characters]"}]}'),
        (b"\x89PNG\0\0", "[6 bytes, not text]"),
        (b"upstream gone", "upstream gone"),
        (b"<!-- x --> <html><title>502</title>", "[web page of 35 bytes, title '502']"),
    ],
)
def test_an_answer_without_content(answer: bytes, shown: str) -> None:
    """The words of an error are shown, those of an answer are not."""
    assert shown_answer(answer, NOTHING)[0] == shown


def test_an_answer_with_content() -> None:
    """All of a text that is no page."""
    assert shown_answer(b'{"choices": [{"text": "hm"}]}', NOTHING)[1].count("hm") == 1
    assert shown_answer(b"", NOTHING) == ("", "")


def test_what_is_content_and_what_is_secret() -> None:
    """Texts by the names of their fields, at any place."""
    body = {"model": "m", "input": ["a", {"text": "b", "token": "t"}], "image": PICTURE}
    assert set(texts_of(body, "")) == {"a", "b", "t"}
    assert list(secrets_of(body, "")) == ["t"]


def test_how_files_are_given() -> None:
    """By their paths: embedded, or by URL; a name that is content is not said."""
    parts = [{"image_url": {"url": PICTURE}}, {"image_url": {"url": "https://h.example/a.png"}}]
    body = {"messages": [{"content": parts}], "my own words": {"url": "http://h.example/b"}}
    assert list(media_in(body, "", 0, NOTHING)) == [
        "messages[0].content[0].image_url.url: embedded as base64, image/png, 3300 bytes",
        "messages[0].content[1].image_url.url: referenced by URL",
        "?.url: referenced by URL",
    ]


@pytest.mark.parametrize("body", [None, b"", b"no json", b"{", b"[" * 100_000])
def test_what_is_not_json(body: bytes | None) -> None:
    """However deep it goes."""
    assert parsed(body) is None


def test_a_large_body_is_parsed_without_its_files() -> None:
    """What was cut out is still known as a file, by its size."""
    picture = "data:image/png;base64," + "A" * (4 * PARSED_UP_TO)
    found = parsed(json.dumps({"model": "m", "image": picture}).encode())
    assert found["model"] == "m"
    assert found["image"] == f"[data:image/png;base64 {3 * PARSED_UP_TO} bytes]"
    assert is_embedded(found["image"])
    assert parsed(b"[" + b'"word",' * PARSED_UP_TO + b"1]") == {"[body]": 7 * PARSED_UP_TO + 3}
