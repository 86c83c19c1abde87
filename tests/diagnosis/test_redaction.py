"""Foreign texts, made harmless."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.diagnosis.redaction import (
    SCANNED,
    Redactor,
    header_secrets,
    query_secrets,
    redactor,
    shown_headers,
    shown_page,
    shown_query,
)
from comet_resilience.escaping import MESSAGE_SHOWN, printable


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    """Control and bidi characters are escaped, long texts cut."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= MESSAGE_SHOWN * 10 + 1


def test_ordinary_words_stay() -> None:
    """Letters of any script pass unchanged."""
    assert printable("field messages is required 上游负载") == "field messages is required 上游负载"
    assert printable("\x1b[31mred\u202e\n") == "\\x1b[31mred\\u202e "


KEY = 'pl"ain/Ke+y\\9%'
KNOWN = redactor([KEY], "once upon a midnight dreary, while I pondered")


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote_plus(KEY),
        re.sub("%..", lambda code: code[0].lower(), quote(KEY, safe="")),
        json.dumps(KEY)[1:-1],
        json.dumps(json.dumps(KEY)[1:-1])[1:-1],
        repr(KEY)[1:-1],
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(b"user:" + KEY.encode()).decode(),
        base64.urlsafe_b64encode(b"user:" + KEY.encode()).decode(),
    ],
)
def test_a_known_secret_is_found_in_every_form(form: str) -> None:
    """Plain, URL-encoded, JSON-escaped, as Python shows it, and in base64."""
    shown = KNOWN.scrub(f"the key <{form}> is wrong")
    assert form not in shown
    assert shown.startswith("the key <")
    assert "[secret]" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-ab***yz.", "Incorrect API key provided: [secret]."),
        ("key sk-proj-abcdefgh12345678 no", "key [secret] no"),
        ("[abc***xyz] is used up", "[[secret]] is used up"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer [secret]"),
        ("AIzaSyA1234567890abcdefg", "[secret]"),
        ("q" * 20 + "7" * 28, "[secret]"),
        ("write to me@x.example.com", "write to [e-mail]"),
        ("from 203.0.113.9 and 2001:db8::1", "from [address] and [address]"),
        (
            "remaining balance: $0.0312, need \uff041.50",
            "remaining balance: [amount], need [amount]",
        ),
        ("RemainQuota = -312", "RemainQuota = [amount]"),
        ("https://u:p@h.example/v1/x?sig=1#f", "https://h.example/v1/x?[query]"),
        ("data:image/png;base64," + "A" * 4_000, "[data:image/png, 3.0 kB]"),
        ("b64 " + "Ab1/" * 100, "b64 [base64, 300 bytes]"),
    ],
)
def test_secrets_are_found_by_their_form(text: str, shown: str) -> None:
    """Keys whole or masked, tokens, addresses, balances, credentials in URLs, embedded data."""
    assert Redactor().scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "field messages is required (request id: 20261102031415926535897Qx7LmZ2p)",
        "No available channel for group default and model gpt-5.4-mini (distributor)",
        "ray 9a1b2c3d4e5f6071-FRA at 2026-11-02T03:14:15+01:00",
        "chatcmpl-20261102031415926535897Qx7LmZ2p",
        "token quota is not enough",
        "max_tokens: 4096 is above 2048",
        "当前分组上游负载已饱和,请稍后再试",
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    """Ids, model names, times and words pass unchanged."""
    assert Redactor().scrub(text) == text
    assert KNOWN.line(text) == text


def test_echoes_of_content_are_replaced_by_their_length() -> None:
    """A dozen characters of a prompt or two are recognised; shorter agreements are chance."""
    line = KNOWN.line("blocked: 'upon a midnight dreary, while' is bad")
    assert line == "blocked: '[29 characters of the request]' is bad"
    assert KNOWN.line("while") == "while"
    joined = redactor(["sk-abcdef0"], "0\0" + "0whispering cherry")
    assert "abcdef" not in joined.line("sk-abcdef0 0whispering cherry")
    assert "midnight dreary" in KNOWN.scrub("a midnight dreary")


def test_a_page_is_its_title_and_ray() -> None:
    """Nothing else of a web page is shown: pages of the edge name their visitor's address."""
    page = "<html><title>524: timeout</title><p>Ray ID: 9a1b2c3d4e5f6071</p>Your IP: 203.0.113.9"
    shown = shown_page(page, Redactor())
    assert (
        shown == f"[web page of {len(page)} bytes, title '524: timeout', ray id 9a1b2c3d4e5f6071]"
    )


def test_headers_and_queries_are_shown_by_allow_list() -> None:
    """What is not known to be harmless is a secret, and is looked for elsewhere."""
    sent = [("Authorization", "Bearer abcdef"), ("X-Team", "blue-7x4"), ("Accept", "text/plain")]
    assert {"abcdef", "blue-7x4"} <= set(header_secrets(sent))
    assert "text/plain" not in set(header_secrets(sent))
    assert list(query_secrets([("key", "abcdef"), ("limit", "5")])) == ["abcdef"]
    pairs = [("key", "abcdef"), ("limit", "5"), ("n", "3")]
    assert shown_query(pairs, KNOWN) == (("key", "[6 characters]"), ("limit", "5"), ("n", "3"))
    answer = [("Set-Cookie", "__cf_bm=1"), ("CF-RAY", "abc-FRA"), ("Location", "https://x/y?k=1")]
    assert shown_headers(answer, KNOWN) == (
        ("cf-ray", "abc-FRA"),
        ("location", "https://x/y?[query]"),
    )


@given(st.text(max_size=300), st.text(min_size=6, max_size=30), st.text(max_size=100))
def test_any_text_can_be_scrubbed(text: str, secret: str, content: str) -> None:
    """Whatever comes, nothing is raised, and a log line is one printable line."""
    known = redactor([secret], content)
    assert known.line(text + secret).isprintable()
    if len(secret.strip()) >= 6:
        assert secret.strip() not in known.scrub(f"{text} {secret}").replace("[secret]", "")


@pytest.mark.parametrize(
    "unit", ["a.", "sk-", "a@", "key=", "1.", ":", "http://", "*", "data:a/b", "eyJa."]
)
@pytest.mark.timeout(120)
def test_scrubbing_takes_time_in_proportion(unit: str) -> None:
    """No text makes the patterns try again and again: that would hang."""
    assert Redactor().scrub(unit * (SCANNED // len(unit)))
