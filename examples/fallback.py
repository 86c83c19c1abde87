"""Another model where one cannot answer, and what that took.

    pip install -e '.[examples]' && python examples/fallback.py

A gateway on the loopback interface has no provider for the first model today. The second answers,
and the journal says what the detour took: attempts, seconds and tokens, model by model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from comet_resilience import FailureKind, diagnose, wrap
from comet_resilience.journal.record import JournalRecord
from comet_resilience.testing import Gateway

FIRST, SECOND = "gpt-5.4", "claude-sonnet-4-6"


async def ask_one_of(client: AsyncOpenAI, *models: str, **request: Any) -> ChatCompletion:
    """Ask the models in turn, until one answers.

    The next one is asked only where the last one could not answer: overloaded, away, unknown. What
    is malformed or forbidden is so for every model, and raised at once, as is the last one's error.
    """
    ask: Callable[..., Awaitable[ChatCompletion]] = client.chat.completions.create
    for model in models[:-1]:
        try:
            return await ask(model=model, **request)
        except OpenAIError as error:
            found = diagnose(error)
            if not (found.retryable or found.kind is FailureKind.MODEL_UNAVAILABLE):
                raise
    return await ask(model=models[-1], **request)


async def main() -> None:
    """Meet a model that is away, and tell what each model took."""
    journal: list[JournalRecord] = []
    async with Gateway(latency=0.05) as gateway:
        gateway.always("unavailable", model=FIRST)
        bare = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
        async with wrap(bare, max_retries=2, backoff_initial=0.1, journal=journal.append) as client:
            question = [{"role": "user", "content": "What is 6 * 7?"}]
            answer = await ask_one_of(client, FIRST, SECOND, messages=question)
    print(f"{answer.choices[0].message.content!r} from {answer.model}")
    for model in (FIRST, SECOND):
        lines = [line for line in journal if line["model"] == model]
        seconds = sum(line["queued"] + line["latency"] for line in lines)
        tokens = sum(line["completion_tokens"] or 0 for line in lines)
        print(f"{model}: attempts {len(lines)}, seconds {seconds:.2f}, tokens {tokens}")


if __name__ == "__main__":
    asyncio.run(main())
