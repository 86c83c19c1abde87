"""The processes that share, and what their keys reveal."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience import Fleet
from comet_resilience.fleet.scope import account_of, budget_key, keys_of

SECRET = "sk-CANARY-3f9a27c1d84e4b6fa0b5"
BASE = "https://api.cometapi.com/v1"


def test_keys_of_one_account_share_a_hash_tag_and_hold_no_secret() -> None:
    account = account_of(BASE, SECRET, None)
    keys = [
        key
        for partition in (("POST /chat/completions", "gpt-5"), "account")
        for key in keys_of(account, partition)
    ]
    assert len(set(keys)) == 4
    tags = {key[key.index("{") : key.index("}") + 1] for key in keys}
    assert len(tags) == 1
    for key in keys:
        assert key.startswith("comet:{")
        assert SECRET not in key
        assert "gpt" not in key


def test_the_same_everywhere_and_different_for_each_account_gateway_and_partition() -> None:
    scopes = {
        keys_of(account_of(base, key, account), partition)
        for base in (BASE, "https://other.example/v1")
        for key, account in (("k1", None), ("k2", None), ("k1", "team"), ("k1", "k1"))
        for partition in (("a", "b"), ("ab", ""), "a")
    }
    assert len(scopes) == 2 * 4 * 3
    assert account_of(BASE + "/", "k1", None) == account_of(BASE, "k1", None)
    assert account_of(BASE, "k1", "team") == account_of(BASE, "k2", "team")


def test_a_budget_has_a_key_of_its_own_beside_the_scopes_of_its_account() -> None:
    account = account_of(BASE, SECRET, None)
    keys = {budget_key(account, name) for name in ("*", "m")}
    assert len(keys | set(keys_of(account, "m"))) == 4
    assert all(key.startswith(f"comet:{{{account}}}:") for key in keys)


@pytest.mark.parametrize("redis", ["", "localhost:6379", "http://x", 5, None, b"redis://x"])
def test_what_is_no_place_is_refused(redis: Any) -> None:
    with pytest.raises(ValueError, match="fleet: expected a URL"):
        Fleet(redis)


@pytest.mark.parametrize("account", ["", 5])
def test_what_is_no_account_is_refused(account: Any) -> None:
    with pytest.raises(ValueError, match="account"):
        Fleet("redis://localhost", account)


def test_its_repr_shows_no_password() -> None:
    assert "hunter2" not in repr(Fleet("redis://:hunter2@localhost"))
