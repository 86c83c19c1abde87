"""The environments of the tests in this folder: what is installed, and what runs there.

Each framework has an environment of its own, because they disagree about the versions that they
share. Pins are of 2026-11-28, the newest that install together: openai 3 but where the framework
wants less.
"""

from __future__ import annotations

from typing import Final

from tests.matrix.environments import Environment

NEWEST: Final = "3.57.0"
#: What the vendor's own SDK and LlamaIndex stand on, and so on httpx.
LAST_2: Final = "2.54.0"


def _environment(
    name: str, *requirements: str, openai: str = NEWEST, tests: tuple[str, ...], gate: bool = False
) -> Environment:
    """Return the row of an environment, with the tests of these subjects."""
    return Environment(
        name=name,
        python="3.12",
        requirements=(*requirements, f"openai=={openai}"),
        tests=tuple(f"tests/ecosystem/test_{subject}.py" for subject in tests),
        core=gate,
        optional=gate,
    )


ENVIRONMENTS: Final = (
    # The real gateway, which the gate runs, too. LiteLLM's newest has no proxy on the index.
    _environment("litellm-proxy", "litellm[proxy]==1.108.7", tests=("litellm_proxy",), gate=True),
    _environment("openai-agents", "openai-agents==0.24.0", tests=("openai_agents",)),
    _environment("pydantic-ai", "pydantic-ai-slim[openai]==2.68.0", tests=("pydantic_ai",)),
    # Its bound on jiter keeps openai at 3.3.0.
    _environment("instructor", "instructor==1.17.0", openai="3.3.0", tests=("instructor",)),
    _environment(
        "langchain-openai",
        "langchain-openai==1.7.4",
        "langchain-core==1.8.4",
        tests=("langchain",),
    ),
    _environment("langgraph", "langgraph==1.2.24", "langchain-openai==1.7.4", tests=("langgraph",)),
    _environment(
        "llama-index",
        "llama-index-llms-cometapi==0.3.1",
        openai=LAST_2,
        tests=("llama_index",),
    ),
    _environment("haystack", "cometapi-haystack==3.0.0", "haystack-ai==3.4.1", tests=("haystack",)),
    _environment("dspy", "dspy==3.4.1", "litellm==1.110.2", tests=("dspy", "litellm")),
    _environment("cometapi", "cometapi==0.1.4", openai=LAST_2, tests=("cometapi",)),
    _environment(
        "notebook",
        "ipykernel==7.4.0",
        "nbclient==0.11.0",
        "matplotlib==3.11.2",
        tests=("notebook",),
    ),
    _environment("service", "fastapi==0.165.0", "uvicorn==0.54.0", tests=("service",)),
)
