"""The list of models."""

from conftest import MODELS


def test_lists_the_models_of_every_provider(client):
    listed = {model.id for model in client.models.list()}

    assert "manifold/echo" in listed
    known = {chat for provider, (chat, _, _) in MODELS.items() if provider != "ollama"}
    assert known <= listed


def test_tells_about_one_model(client):
    for name in ("manifold/echo", "groq/llama-3.1-8b-instant", "openrouter/meta-llama/llama-3.3-70b-instruct:free"):
        model = client.models.retrieve(name)

        assert (model.id, model.object) == (name, "model")
