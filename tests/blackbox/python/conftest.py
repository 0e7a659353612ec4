"""Clients of the gateway that run.py started."""

import os

import pytest
from openai import OpenAI

# provider → (a chat model, a chat model with JSON schema, an embedding model)
MODELS = {
    "groq": ("groq/llama-3.1-8b-instant", "groq/openai/gpt-oss-120b", "groq/some-embedding-model"),
    "mistral": ("mistral/mistral-small-latest", "mistral/mistral-small-latest", "mistral/mistral-embed"),
    "gemini": ("gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash", "gemini/gemini-embedding-001"),
    "openrouter": (
        "openrouter/meta-llama/llama-3.3-70b-instruct:free",
        "openrouter/openai/gpt-oss-120b",
        "openrouter/openai/text-embedding-3-small",
    ),
    "ollama": ("ollama/llama3.2", "ollama/llama3.2", "ollama/nomic-embed-text"),
}


@pytest.fixture(params=MODELS)
def provider(request):
    return request.param


@pytest.fixture
def model(provider):
    return MODELS[provider][0]


@pytest.fixture
def schema_model(provider):
    return MODELS[provider][1]


@pytest.fixture
def embedding_model(provider):
    return MODELS[provider][2]


def client_of(name, **options):
    url, key = os.environ[f"BLACKBOX_{name}_URL"], os.environ[f"BLACKBOX_{name}_KEY"]
    return OpenAI(**{"base_url": url, "api_key": key, "max_retries": 0, "timeout": 30, **options})


@pytest.fixture(scope="session")
def client():
    """The gateway whose providers are aimock."""
    return client_of("AIMOCK")


@pytest.fixture(scope="session")
def scripted():
    """The gateway whose providers answer from a script, in each vendor's own words."""
    return client_of("SCRIPTED")


@pytest.fixture(scope="session")
def stranger():
    """A caller with a key that nobody made."""
    return client_of("AIMOCK", api_key="mk_live_nobody_made_this_key")
