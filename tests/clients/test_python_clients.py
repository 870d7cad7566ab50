"""The official Python clients on the same trip with the real model; tests/e2e has them with scripted answers."""
import json

import pytest

QUESTION = {"role": "user", "content": "How is the weather in Rome? Use the tool."}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
SUNNY = json.dumps({"sky": "sunny", "celsius": 25})
MAX_TOKENS = 40


def ask_openai(client, stream, messages, choice):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}]
    fields = {"model": "gpt-x", "messages": messages, "tools": tools, "tool_choice": choice, "temperature": 0,
              "max_tokens": MAX_TOKENS}
    if not stream:
        return client.chat.completions.create(**fields).choices[0]
    with client.chat.completions.stream(**fields) as events:
        return events.get_final_completion().choices[0]


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_openai(qwen, stream):
    with qwen.openai() as client:
        first = ask_openai(client, stream, [QUESTION], {"type": "function", "function": {"name": "weather"}})
        call, = first.message.tool_calls
        assert first.finish_reason == "tool_calls" and json.loads(call.function.arguments).keys() == {"city"}
        turn = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": {
            "name": call.function.name, "arguments": call.function.arguments}}]}
        messages = [QUESTION, turn, {"role": "tool", "tool_call_id": call.id, "content": SUNNY}]
        last = ask_openai(client, stream, messages, "none")
    assert last.message.content.strip() and last.finish_reason in ("stop", "length") and not last.message.tool_calls


def ask_anthropic(client, stream, messages, choice):
    fields = {"model": "claude-x", "messages": messages, "tool_choice": choice, "max_tokens": MAX_TOKENS,
              "tools": [{"name": "weather", "input_schema": SCHEMA, "strict": True}]}
    if not stream:
        return client.messages.create(**fields)
    with client.messages.stream(**fields) as events:
        return events.get_final_message()


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_anthropic(qwen, stream):
    with qwen.anthropic() as client:
        first = ask_anthropic(client, stream, [QUESTION], {"type": "tool", "name": "weather"})
        call, = first.content
        assert first.stop_reason == "tool_use" and call.input.keys() == {"city"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": SUNNY}
        messages = [QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        last = ask_anthropic(client, stream, messages, {"type": "none"})
    assert last.stop_reason in ("end_turn", "max_tokens") and last.content[0].text.strip()
