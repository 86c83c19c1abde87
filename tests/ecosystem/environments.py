"""The environments of the tests in this folder: what is installed, and what runs there.

Each framework has an environment of its own, because they disagree about the versions that they
share. Besides its requirements an environment needs this package with its `test` extra, or at
least hypothesis, pytest, pytest-timeout, trio and h11. Pins are of 2026-11-28, the newest that
install together: openai 3 but where the framework wants less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A name, the exact versions to install, and the test files that run with them."""

    name: str
    requirements: tuple[str, ...]
    tests: tuple[str, ...]


ENVIRONMENTS: Final = (
    Environment(
        name="openai-agents",
        requirements=("openai-agents==0.24.0", "openai==3.57.0"),
        tests=("tests/ecosystem/test_openai_agents.py",),
    ),
    Environment(
        name="pydantic-ai",
        requirements=("pydantic-ai-slim[openai]==2.68.0", "openai==3.57.0"),
        tests=("tests/ecosystem/test_pydantic_ai.py",),
    ),
    Environment(
        name="instructor",
        # Its bound on jiter keeps openai at 3.3.0.
        requirements=("instructor==1.17.0", "openai==3.3.0"),
        tests=("tests/ecosystem/test_instructor.py",),
    ),
    Environment(
        name="langchain-openai",
        requirements=("langchain-openai==1.7.4", "langchain-core==1.8.3", "openai==3.57.0"),
        tests=("tests/ecosystem/test_langchain.py",),
    ),
    Environment(
        name="langgraph",
        requirements=("langgraph==1.2.24", "langchain-openai==1.7.4", "openai==3.57.0"),
        tests=("tests/ecosystem/test_langgraph.py",),
    ),
    Environment(
        name="llama-index",
        # LlamaIndex itself stands on openai 2.
        requirements=("llama-index-llms-cometapi==0.3.1", "openai==2.54.0"),
        tests=("tests/ecosystem/test_llama_index.py",),
    ),
    Environment(
        name="haystack",
        requirements=("cometapi-haystack==3.0.0", "haystack-ai==3.4.1", "openai==3.57.0"),
        tests=("tests/ecosystem/test_haystack.py",),
    ),
    Environment(
        name="dspy",
        requirements=("dspy==3.4.1", "litellm==1.110.2", "openai==3.57.0"),
        tests=("tests/ecosystem/test_dspy.py", "tests/ecosystem/test_litellm.py"),
    ),
    Environment(
        name="cometapi",
        # The vendor's own SDK stands on openai 2, and so on httpx.
        requirements=("cometapi==0.1.4", "openai==2.54.0"),
        tests=("tests/ecosystem/test_cometapi.py",),
    ),
    Environment(
        name="litellm-proxy",
        requirements=("litellm[proxy]==1.108.7", "openai==3.57.0"),
        tests=("tests/ecosystem/test_litellm_proxy.py",),
    ),
    Environment(
        name="notebook",
        requirements=(
            "ipykernel==7.4.0",
            "nbclient==0.11.0",
            "matplotlib==3.11.2",
            "openai==3.57.0",
        ),
        tests=("tests/ecosystem/test_notebook.py",),
    ),
    Environment(
        name="service",
        requirements=("fastapi==0.165.0", "uvicorn==0.54.0", "openai==3.57.0"),
        tests=("tests/ecosystem/test_service.py",),
    ),
)
