"""Exceptions that are pickled and copied with their diagnosis."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import openai
import pytest

from comet_resilience import (
    diagnose,
    support_report,
)

from ..conftest import BROKEN, KEY, LIMITED, ask, httpx, scripted


@pytest.mark.anyio
async def test_exceptions_take_their_diagnosis_along() -> None:
    """Those of the SDK and ours can be pickled and copied, without request and key."""
    gone: Any = (301, b"", {"location": "https://www.cometapi.com/"})
    half: Any = (200, {"error": {"message": "half"}}, {})
    for answer in (LIMITED, BROKEN, gone, half, httpx.ConnectError("no")):
        client, _ = scripted(answer, max_retries=0)
        with pytest.raises(openai.OpenAIError) as caught:
            await ask(client)
        error: Any = caught.value
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(twin) is type(error)
            assert str(diagnose(twin)) == str(diagnose(error))
            assert twin.__notes__ == error.__notes__
            assert getattr(twin, "status_code", None) == getattr(error, "status_code", None)
            assert support_report(twin).request_body == support_report(error).request_body
        assert KEY.encode() not in pickle.dumps(error)
