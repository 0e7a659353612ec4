"""Embeddings over every provider. Those of Gemini and Ollama come from the script: aimock plays them in older shapes."""

import pytest

VECTOR = [0.25, -0.5, 0.75]
PLAYED_BY_SCRIPT = ("gemini", "ollama")


@pytest.fixture
def embedder(client, scripted, provider):
    return scripted if provider in PLAYED_BY_SCRIPT else client


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeds_one_text(embedder, embedding_model, encoding):
    answer = embedder.embeddings.create(model=embedding_model, input="a text to embed", encoding_format=encoding)

    assert answer.object == "list"
    if encoding == "float":
        assert answer.data[0].embedding == VECTOR
    else:
        assert isinstance(answer.data[0].embedding, str)


def test_the_default_of_the_client_gives_numbers(embedder, embedding_model):
    answer = embedder.embeddings.create(model=embedding_model, input="a text to embed")

    assert answer.data[0].embedding == VECTOR


def test_embeds_several_texts_in_order(embedder, embedding_model):
    answer = embedder.embeddings.create(model=embedding_model, input=["a text to embed", "and a text to embed"])

    assert [row.index for row in answer.data] == [0, 1]
    assert len(answer.data[1].embedding) == len(VECTOR)
