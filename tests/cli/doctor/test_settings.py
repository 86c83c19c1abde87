"""Settings: key, base URL, ``.env`` and proxies, as the environment gives them."""

from __future__ import annotations

import pytest

from comet_resilience.cli.doctor.settings import (
    check_base_url,
    check_key,
    check_proxies,
    parse_base_url,
    parse_dotenv,
    secrets_of,
)


def test_a_base_url_that_the_sdk_reads_instead() -> None:
    """``OPENAI_BASE_URL`` is what a client without ``base_url`` takes."""
    url = "https://api.cometapi.com/v1"
    found = check_base_url("COMETAPI_BASE_URL", url, {"OPENAI_BASE_URL": "https://else.example/v1"})
    assert found.outcome == "warn"
    assert check_base_url("OPENAI_BASE_URL", url, {"OPENAI_BASE_URL": url}).notes == ()
    assert "calls OpenAI" in check_base_url("the default", url, {}).notes[0]


@pytest.mark.parametrize(
    ("environment", "dotenv", "outcome", "words"),
    [
        ({"COMETAPI_KEY": "k-123456"}, {}, "pass", "from COMETAPI_KEY"),
        ({"COMETAPI_KEY": " ", "OPENAI_API_KEY": "k-123456"}, {}, "warn", "set but empty"),
        ({}, {}, "fail", "neither COMETAPI_KEY nor OPENAI_API_KEY is set"),
        ({}, {"COMETAPI_KEY": "k-123456"}, "fail", ".env file in this directory sets COMETAPI_KEY"),
        ({"COMETAPI_API_KEY": "k-123456"}, {}, "fail", "COMETAPI_API_KEY is, but"),
        ({"COMETAPI_KEY": "Bearer k-123456"}, {}, "fail", "begins with 'Bearer '"),
        ({"COMETAPI_KEY": "$COMETAPI_KEY"}, {}, "fail", "placeholder"),
        ({"COMETAPI_KEY": "k-1", "COMETAPI_API_KEY": "k-2"}, {}, "warn", "COMETAPI_API_KEY is set"),
        ({"COMETAPI_KEY": "k-1", "OPENAI_API_KEY": "k-1"}, {"COMETAPI_KEY": "k-1"}, "pass", ""),
    ],
)
def test_the_key(
    environment: dict[str, str], dotenv: dict[str, str], outcome: str, words: str
) -> None:
    """Where it comes from, its form, and what differs from it."""
    found = check_key(environment, dotenv)
    assert found.outcome == outcome
    assert words in " ".join((found.reason, *found.notes))


@pytest.mark.parametrize(
    ("url", "outcome", "words"),
    [
        ("https://api.cometapi.com/v1", "pass", "api.cometapi.com/v1"),
        ("https://api.cometapi.com", "warn", "does not include /v1"),
        ("https://api.cometapi.com/v1/", "warn", "slash"),
        ("https://www.cometapi.com/v1", "warn", "not the API's host"),
        ("https://api.cometapi.com/v1/chat/completions", "warn", "endpoint's path"),
        ("https://api.openai.com/v1", "warn", "OpenAI's"),
        ("http://gateway.example/v1", "warn", "not https"),
        ("https://user:CANARY@gateway.example/v1", "warn", "credentials"),
        ("gateway.example/v1", "fail", "not a URL"),
        ("https://[::1", "fail", "not a URL"),
    ],
)
def test_the_base_url(url: str, outcome: str, words: str) -> None:
    """What is wrong with it, and how it should be."""
    found = check_base_url("--base-url", url, {})
    assert found.outcome == outcome
    assert words in found.reason
    assert "CANARY" not in str(found)
    if outcome == "warn" and "cometapi" in url:
        assert found.action.endswith(" https://api.cometapi.com/v1")


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [
        ({}, "pass"),
        ({"HTTPS_PROXY": "http://me:CANARY@proxy.example:3128"}, "warn"),
        ({"http_proxy": "http://proxy.example:3128"}, "pass"),
        ({"all_proxy": "proxy.example:3128"}, "warn"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost, .cometapi.com"}, "pass"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, "pass"),
    ],
)
def test_proxies(environment: dict[str, str], outcome: str) -> None:
    """The one in front of the base URL is named, without its password."""
    found = check_proxies(environment, parse_base_url("https://api.cometapi.com/v1"))
    assert found.outcome == outcome
    assert "CANARY" not in str(found)


def test_a_dotenv_file() -> None:
    """Exports, quotes and comments are read as the usual loaders read them."""
    text = "# c\nexport A='x y' # c\nB=1 # c\nC=\"q\"\nD=\nnonsense\n"
    assert parse_dotenv(text) == {"A": "x y", "B": "1", "C": "q", "D": ""}


def test_tokens_of_the_base_url_are_secret() -> None:
    """In its path and in its query, as in a request that fails."""
    found = secrets_of({}, "https://u:pass@h.example/kHjw82hsWq01/openai/v1?key=letmein&x=1")
    assert {"kHjw82hsWq01", "letmein", "pass"} <= found
    assert not found & {"openai", "v1", "1"}
