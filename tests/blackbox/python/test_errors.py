"""Typed errors over every provider, and nothing of the operator's in them."""

import json
import os
import urllib.request

import openai
import pytest

# What the provider answers → what the caller gets. A provider's 401 is the operator's fault, so the caller is not told
# that its own key is wrong.
STATUSES = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    401: openai.InternalServerError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
}


def ask(client, model, text, **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)


def assert_says_nothing_private(error):
    said = f"{error} {error.response.text} {dict(error.response.headers)}"
    assert "nobody-may-see" not in said
    assert "127.0.0.1" not in said


def named(model, suffix):
    """The same provider, another model: a cooldown of one test must not reach the next."""
    return f"{model.split('/')[0]}/{suffix}"


def test_a_wrong_key(stranger, model):
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(stranger, model, "say hello")

    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, "no-provider-has-this-model", "say hello")

    assert caught.value.code == "model_not_found"


def test_a_body_that_makes_no_sense(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model, "say hello", temperature="hot")

    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == "temperature"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_the_error_of_a_played_provider(client, model, status, stream):
    with pytest.raises(STATUSES[status]) as caught:
        ask(client, named(model, f"py-{status}-{stream}"), f"fail with {status}", stream=stream)

    assert_says_nothing_private(caught.value)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", STATUSES)
def test_the_error_in_the_words_of_the_vendor(scripted, model, status, stream):
    with pytest.raises(STATUSES[status]) as caught:
        ask(scripted, named(model, f"py-{status}-{stream}"), f"status {status}", stream=stream)

    assert_says_nothing_private(caught.value)


def test_a_limit_tells_when_to_come_back(scripted, provider, model):
    if provider == "ollama":
        pytest.skip("Ollama does not tell when")

    with pytest.raises(openai.RateLimitError) as caught:
        ask(scripted, named(model, "py-limit"), "status 429")

    assert 0 < int(caught.value.response.headers["retry-after"]) <= 7


def test_the_credential_goes_where_the_vendor_wants_it(scripted, provider, model):
    ask(scripted, model, "say hello")

    upstream = os.environ["BLACKBOX_SCRIPTED_UPSTREAM"]
    headers = [r["headers"] for r in requests_of(upstream) if r["vendor"] == provider][-1]
    secret = f"{provider}-key-nobody-may-see"
    if provider == "gemini":
        assert headers["x-goog-api-key"] == secret
    elif provider == "ollama":
        assert "authorization" not in headers
    else:
        assert headers["authorization"] == f"Bearer {secret}"


def requests_of(upstream):
    with urllib.request.urlopen(f"{upstream}/requests") as answer:
        return json.load(answer)
