"""Chats over every provider."""

import json

from pydantic import BaseModel

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say hello"}]
GREETING = "Hello from the other side."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    born: int


def test_answers(client, provider, model):
    answer = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)

    completion = answer.parse()
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == GREETING
    assert completion.choices[0].finish_reason == "stop"
    assert answer.headers["x-manifold-provider"] == provider
    assert answer.headers["x-manifold-attempts"] == "1"
    assert answer.headers["x-request-id"]


def test_tells_the_tokens(scripted, model):
    completion = scripted.chat.completions.create(model=model, messages=HELLO)

    assert completion.usage.prompt_tokens == 11
    assert completion.usage.completion_tokens == 7
    assert completion.usage.total_tokens == 18


def test_streams_in_pieces(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))

    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(pieces) == GREETING
    assert len(pieces) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({c.id for c in chunks}) == 1


def test_a_stream_ends_with_usage_only_if_asked(client, model):
    asked = list(client.chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    silent = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))

    assert asked[-1].choices == []
    assert asked[-1].usage.total_tokens == asked[-1].usage.prompt_tokens + asked[-1].usage.completion_tokens
    assert all(chunk.usage is None for chunk in silent)


def test_calls_a_tool_and_takes_its_result(client, model):
    question = [{"role": "user", "content": "What is the weather in Oslo?"}]

    first = client.chat.completions.create(model=model, messages=question, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    second = client.chat.completions.create(model=model, tools=[WEATHER], messages=[
        *question,
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 4}'},
    ])

    assert first.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert second.choices[0].message.content == "It is 4 degrees in Oslo."


def test_calls_two_tools_at_once(client, model):
    question = [{"role": "user", "content": "What is the weather in Oslo and Rome?"}]

    completion = client.chat.completions.create(model=model, messages=question, tools=[WEATHER])

    calls = completion.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
    assert len({call.id for call in calls}) == 2


def test_streams_tool_calls(client, model):
    question = [{"role": "user", "content": "What is the weather in Oslo and Rome?"}]

    with client.chat.completions.stream(model=model, messages=question, tools=[WEATHER]) as stream:
        completion = stream.get_final_completion()

    calls = completion.choices[0].message.tool_calls
    assert completion.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
    assert len({call.id for call in calls}) == 2


def test_answers_in_a_json_schema(client, schema_model):
    question = [{"role": "user", "content": "who wrote the first program?"}]

    completion = client.chat.completions.parse(model=schema_model, messages=question, response_format=Person)

    assert completion.choices[0].message.parsed == Person(name="Ada", born=1815)


def test_the_schema_reaches_the_provider(scripted, schema_model):
    question = [{"role": "user", "content": "who wrote the first program?"}]

    completion = scripted.chat.completions.parse(model=schema_model, messages=question, response_format=Person)

    assert completion.choices[0].message.parsed == Person(name="Ada", born=1815)


def test_the_echo_model_needs_no_provider(client):
    completion = client.chat.completions.create(model="manifold/echo", messages=HELLO)

    assert completion.choices[0].message.content == "say hello"
