"""Known secrets in every disguise, and ordinary words that are none."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from comet_resilience.diagnosis.redaction import (
    SECRET,
    header_secrets,
    path_secrets,
    query_secrets,
    redactor,
    unusual,
)
from comet_resilience.diagnosis.secrets import _WORDS, SHORTEST, WINDOW, folded, known_secrets

KEY = "sk-proj-Vq7Xe2Rk9Wd4Jb6Ht1Ym8Zc3"
KNOWN = redactor([KEY], "")
#: What is between the characters of a key, where somebody has put something there.
BETWEEN = ("\u200b", "\u00ad", "\n", " ", "\r\n\t", "\u2060\ufeff", "\u0301", "\ufe0f", "\\n")


def full_width(text: str) -> str:
    """The text in full-width letters."""
    return "".join(chr(ord(char) + 0xFEE0) for char in text)


DISGUISES = {
    "lower case": str.lower,
    "upper case": str.upper,
    "full width": full_width,
    "percent": lambda text: "".join(f"%{ord(char):02x}" for char in text),
    "percent, twice": lambda text: quote("".join(f"%{ord(char):02X}" for char in text)),
    "JSON": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "JSON, twice": lambda text: "".join(f"\\\\u{ord(char):04X}" for char in text),
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64, behind a name": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"ab{text}cd".encode()).decode(),
} | {f"with {between!r}": lambda text, b=between: b.join(text) for between in BETWEEN}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("part", ["whole", "first", "last", "middle"])
def test_a_secret_is_found_in_every_disguise(disguise: str, part: str) -> None:
    """Whole, or the first or last three quarters of it, or a part between them."""
    quarter = len(KEY) // 4
    piece = {
        "whole": KEY, "first": KEY[:-quarter], "last": KEY[quarter:], "middle": KEY[9:-9],
    }[part]  # fmt: skip
    shown = DISGUISES[disguise](piece)
    clean = KNOWN.without_secrets(f"the key <{shown}> is wrong")
    assert SECRET in clean
    assert clean.startswith("the key <")
    assert clean.endswith("> is wrong")
    assert KEY[12:20].casefold() not in folded(clean)


def test_a_public_prefix_goes_with_its_key() -> None:
    """No letter of it is left in front of what was replaced."""
    assert KNOWN.without_secrets(f"no {KEY}!") == f"no {SECRET}!"
    assert KNOWN.without_secrets(f"no {KEY[:20]}!") == f"no {SECRET}!"


@given(st.data())
def test_no_eight_characters_of_a_secret_stay(data: st.DataObject) -> None:
    """Whatever part of a key stands wherever in a text, no window of it is left."""
    alphabet = st.characters(codec="ascii", categories=("L", "N"))
    key = data.draw(st.text(alphabet, min_size=16, max_size=40))
    assume(not any(word in folded(key) for word in _WORDS))  # these give nothing away
    start = data.draw(st.integers(0, len(key) - WINDOW))
    piece = key[start : data.draw(st.integers(start + WINDOW, len(key)))]
    around = st.text(st.characters(codec="utf-8"), max_size=20)
    text = f"{data.draw(around)}/{piece}/{data.draw(around)}"
    clean = redactor([key], "").without_secrets(text)
    left = folded(clean.replace(SECRET, "\0" * WINDOW))
    assert all(folded(key[at : at + WINDOW]) not in left for at in range(len(key) - WINDOW + 1))


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj- is how keys of projects begin",
        "expected 'Bearer ' and a key",
        "the production environment is down",
        "Vq7Xe2R and Zc3",
        "no available channel for model openai/gpt-5.4-mini",
    ],
)
def test_what_keys_have_in_common_is_no_secret(text: str) -> None:
    """Public prefixes, ordinary words in a key, and pieces that are too short to say anything."""
    known = redactor([KEY, "my-production-key-7Hq2Zx9Lm4"], "")
    assert known.without_secrets(text) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-portkey-provider", "openai"),
        ("x-portkey-provider", "azure-openai"),
        ("x-region", "eu-central-1"),
        ("helicone-cache-enabled", "true"),
        ("anthropic-version", "2023-06-01"),
        ("openai-beta", "assistants=v2"),
        ("x-model", "llama3"),
        ("http-referer", "https://example.com/app"),
        ("x-portkey-config", '{"provider": "openai", "retry": {"attempts": 5}}'),
        ("x-request-id", "0b9f2c1e-1111-2222-3333-9d8e7f6a5b4c"),
    ],
)
def test_words_of_a_header_are_no_secret(name: str, value: str) -> None:
    """A routing header must not blank its words in every report."""
    assert not [found for found in header_secrets([(name, value)]) if len(found) >= SHORTEST]


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("authorization", "Bearer kHjw82hsWq01", "kHjw82hsWq01"),
        ("api-key", "correcthorse", "correcthorse"),
        ("x-api-key", "kHjw82hsWq01", "kHjw82hsWq01"),
        ("x-goog-api-key", "kHjw82hsWq01", "kHjw82hsWq01"),
        ("cf-aig-authorization", "Bearer kHjw82hsWq01", "kHjw82hsWq01"),
        ("helicone-auth", "Bearer correcthorse", "correcthorse"),
        ("x-portkey-virtual-key", "openai-virtual", "openai-virtual"),
        ("openai-organization", "org-kHjw82hsWq01", "org-kHjw82hsWq01"),
        ("cookie", "a=1; session=kHjw82hsWq01", "kHjw82hsWq01"),
        ("proxy-authorization", "Basic dXNlcjprSGp3ODJoc1dxMDE=", "kHjw82hsWq01"),
        ("x-anything", "kHjw82hsWq01", "kHjw82hsWq01"),
        ("x-portkey-config", '{"api_key": "sk-correct"}', "sk-correct"),
    ],
)
def test_what_a_header_holds_besides_words_is_secret(name: str, value: str, secret: str) -> None:
    """By its name, by its scheme, or by its look."""
    assert secret in set(header_secrets([(name, value)]))


def test_a_token_of_the_base_url_is_secret() -> None:
    """In its path or in its query; names of models and versions are none."""
    assert list(path_secrets("/t/kHjw82hsWq01/openai/v1")) == ["kHjw82hsWq01"]
    assert not list(path_secrets("/openai/deployments/gpt-4o-mini-2024-07-18/v1beta"))
    assert not list(path_secrets("/compatible-mode/llama3/v1"))
    pairs = [("key", "letmein/chat/completions"), ("x", "kHjw82hsWq01"), ("region", "eu-west-3")]
    assert list(query_secrets(pairs)) == ["letmein", "kHjw82hsWq01"]


def test_a_short_or_invisible_secret_is_found_as_a_whole() -> None:
    """Six or seven characters, or such as folding leaves nothing of."""
    known = redactor(["qz81xk", "\u200b" * 9, "password"], "")
    assert known.without_secrets("[QZ81XK]") == f"[{SECRET}]"
    assert known.without_secrets("\u200b" * 9) == SECRET
    assert known.without_secrets("the password is 'password'").count(SECRET) == 2
    assert not known_secrets(["short"])


def test_other_words_are_unusual_or_not() -> None:
    """What reads as a name is told from what a machine has made."""
    assert not list(unusual("us-east-1 Production gpt-4o v1beta 20261102 EU"))
    made = ["kJ8", "deadb33f", "sk-correct", "kjhgfdsapoiu", "abcdefghijklmnop", "AbCdEf"]
    assert list(unusual(" ".join(made))) == made


def test_entities_of_a_page_hide_nothing() -> None:
    """Also by their names, as web pages write them."""
    known = redactor(['a"b<c>d&e\'f"g'], "")
    assert known.without_secrets(html.escape('a"b<c>d&e\'f"g')) == SECRET
    assert known.without_secrets(json.dumps('a"b<c>d&e\'f"g')) == f'"{SECRET}"'
