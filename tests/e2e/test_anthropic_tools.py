"""Tool calls and thinking over Anthropic's Messages API, with answers of a script and a template in the style of
Hermes and Qwen."""
import json
import re

import anthropic
import anthropic.types as types
import pytest

from harness import Server, parse_named_events
from test_anthropic_client import ask, body, check_error, check_order, stream, streamed_text, text, total

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

TEMPLATE = """
{%- if tools %}<|im_start|>system
You may call these functions, each call as JSON within <tool_call></tool_call>:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

BROKEN = '<tool_call>\n{"name": "get_weather", "arguments": {"place": "Ro'  # to be cut off there by max_tokens
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"place": "Rome", "days": [1, 2]}}\n</tool_call>'
SCRIPT = {"rules": [
    {"match": "RESULT-SUNNY", "text": "<think>\nSun, then.\n</think>\n\nIt is sunny."},
    {"match": "KEY-CALL", "text": f"<think>\nThey want the weather.\n</think>\n\nI look.\n{CALL}"},
    {"match": "KEY-PACED", "text": f"<think>\nThey want the weather.\n</think>\n\nI look.\n{CALL}", "delay_ms": 4},
    {"match": "KEY-TWO", "text": CALL + '\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'},
    {"match": "KEY-BROKEN", "text": BROKEN},
    {"match": "KEY-THINK", "text": "<think>\nOne two three four five.\n</think>\n\nDone."},
], "default": {"text": "Hello there."}}

TOOLS = [{"name": "get_weather", "description": "The weather of a place.",
          "input_schema": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "array"}},
                           "required": ["place"]}},
         {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}]


@pytest.fixture(scope="module")
def agent(tiny_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    (folder / "template.jinja").write_text(TEMPLATE)
    (folder / "script.json").write_text(json.dumps(SCRIPT))
    with Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", folder / "script.json", "--chat-template",
                folder / "template.jinja", "--journal", folder / "journal", "--served-model-name", "claude-*") as server:
        yield server


def kinds(answer):
    return [block["type"] for block in answer["content"]]


def test_call_in_a_body(agent):
    answer = ask(agent, "KEY-CALL", max_tokens=200, tools=TOOLS)
    assert kinds(answer) == ["thinking", "text", "tool_use"] and answer["stop_reason"] == "tool_use"
    thinking, said, call = answer["content"]
    assert thinking["thinking"].strip() == "They want the weather." and said["text"].strip() == "I look."
    assert re.fullmatch(r"toolu_[A-Za-z0-9]{24}", call["id"]) and call["name"] == "get_weather"
    assert call["input"] == {"place": "Rome", "days": [1, 2]}
    details = answer["usage"]["output_tokens_details"]
    assert 0 < details["thinking_tokens"] < answer["usage"]["output_tokens"]


def test_call_in_a_stream(agent):
    events = stream(agent, "KEY-PACED", max_tokens=200, tools=TOOLS)
    starts = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    assert [b["type"] for b in starts] == ["thinking", "text", "tool_use"] and starts[2]["input"] == {}
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    pieces = [d["partial_json"] for d in deltas if d["type"] == "input_json_delta"]
    assert json.loads("".join(pieces)) == {"place": "Rome", "days": [1, 2]} and len(pieces) > 2
    signature, = (d["signature"] for d in deltas if d["type"] == "signature_delta")
    assert signature == ask(agent, "KEY-CALL", max_tokens=200, tools=TOOLS)["content"][0]["signature"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[0]["message"]["usage"]["output_tokens_details"]["thinking_tokens"] == 0
    assert events[-2]["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_client_accumulates(agent):
    with agent.anthropic() as client:
        with client.messages.stream(model="claude-x", max_tokens=200, tools=TOOLS,
                                    messages=[{"role": "user", "content": "KEY-TWO"}]) as events:
            final = events.get_final_message()
    assert [b.name for b in final.content] == ["get_weather", "get_time"] and final.stop_reason == "tool_use"
    assert [b.input for b in final.content] == [{"place": "Rome", "days": [1, 2]}, {}]
    assert len({b.id for b in final.content}) == 2
    types.Message.model_validate(final.to_dict(mode="json"))


def test_conversation_with_a_tool(agent):
    """The turn comes back as it was, thinking and all; then the model is asked again."""
    turns = [{"role": "user", "content": "KEY-CALL"}]
    with agent.anthropic() as client:
        first = client.messages.create(model="claude-x", max_tokens=200, tools=TOOLS, messages=turns,
                                       thinking={"type": "adaptive"})
        turns += [{"role": "assistant", "content": first.content},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first.content[2].id,
                                                "content": [{"type": "text", "text": "RESULT-SUNNY"}]}]}]
        second = client.messages.create(model="claude-x", max_tokens=200, tools=TOOLS, messages=turns,
                                        thinking={"type": "adaptive"})
        count = client.messages.count_tokens(model="claude-x", tools=TOOLS, messages=turns,
                                             thinking={"type": "adaptive"})
    assert [b.type for b in second.content] == ["thinking", "text"] and second.stop_reason == "end_turn"
    assert second.content[1].text.strip() == "It is sunny."
    assert count.input_tokens == total(second.usage.to_dict())
    prompt = agent.ok("/apply-template", {"messages": [
        {"role": "user", "content": "KEY-CALL"},
        {"role": "assistant", "content": first.content[1].text, "reasoning_content": first.content[0].thinking,
         "tool_calls": [{"id": "x", "type": "function", "function": {
             "name": "get_weather", "arguments": json.dumps(first.content[2].input)}}]},
        {"role": "tool", "tool_call_id": "x", "content": "RESULT-SUNNY"}],
        "tools": [{"type": "function", "function": {"name": t["name"], **({"description": t["description"]} if "description" in t else {}),
                                                    "parameters": t["input_schema"]}} for t in TOOLS],
        "chat_template_kwargs": {"enable_thinking": True}})["prompt"]
    assert len(agent.tokens(prompt)) == count.input_tokens


def test_system_between_messages(agent, tiny_path, tmp_path):
    """As Claude Code sends it. A template that takes it only at the beginning gets it within the user's message."""
    turns = [{"role": "user", "content": "a"}, {"role": "system", "content": "Be brief."}]
    told = {"role": "user", "content": "a\n<system-reminder>\nBe brief.\n</system-reminder>"}
    strict = "{%- if message.role == 'system' and not loop.first %}{{ raise_exception('System comes first.') }}{% endif %}"
    (tmp_path / "strict.jinja").write_text(TEMPLATE.replace("in messages %}", "in messages %}" + strict, 1))

    def count(server, messages):
        return server.ok("/v1/messages/count_tokens", {"messages": messages})["input_tokens"]
    with Server(tiny_path, "--kv-memory", "64M", "--chat-template", tmp_path / "strict.jinja") as server:
        assert total(ask(server, turns)["usage"]) == count(server, turns) == count(server, [told])
        assert server.post("/v1/chat/completions", {"messages": turns}).status_code == 400, "OpenAI's refuses as it does"
    assert count(agent, turns) != count(agent, [told])


def test_tool_runner(agent):
    """The client's own loop: it calls the function and sends the result."""
    asked = []

    @anthropic.beta_tool
    def get_weather(place: str, days: list) -> str:
        """The weather of a place."""
        asked.append((place, days))
        return "RESULT-SUNNY"

    with agent.anthropic() as client:
        final = client.beta.messages.tool_runner(model="claude-x", max_tokens=200, tools=[get_weather],
                                                 messages=[{"role": "user", "content": "KEY-CALL"}]).until_done()
    assert asked == [("Rome", [1, 2])] and final.content[-1].text.strip() == "It is sunny."


def test_thinking_that_was_changed(agent):
    thought = ask(agent, "KEY-THINK", max_tokens=100)["content"][0]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [thought, {"type": "text", "text": "b"}]},
             {"role": "user", "content": "c"}]
    assert ask(agent, turns)["content"]
    thought["thinking"] += " Six."
    check_error(agent.post("/v1/messages", body(turns)), 400, "invalid_request_error",
                r"messages\[1\]\.content\[0\].*passed back")


def test_omitted_thinking(agent):
    fields = {"max_tokens": 100, "thinking": {"type": "adaptive", "display": "omitted"}}
    shown, hidden = ask(agent, "KEY-THINK", max_tokens=100), ask(agent, "KEY-THINK", **fields)
    assert hidden["content"][0] == {**shown["content"][0], "thinking": ""}
    assert hidden["content"][1] == shown["content"][1]
    events = stream(agent, "KEY-THINK", **fields)
    deltas = [e["delta"]["type"] for e in events if e["type"] == "content_block_delta"]
    assert "thinking_delta" not in deltas and deltas[0] == "signature_delta" and "Done." in streamed_text(events)


def test_call_that_is_cut_off(agent):
    broken = len(agent.tokens(BROKEN))
    answer = ask(agent, "KEY-BROKEN", max_tokens=broken, tools=TOOLS)
    assert answer["stop_reason"] == "max_tokens"
    call = answer["content"][-1]
    assert call["type"] == "tool_use" and call["name"] == "get_weather"
    assert call["input"]["INVALID_JSON"].startswith('{"place": "Ro')


def test_no_tools_are_shown_when_none_may_be_called(agent):
    with_tools = agent.ok("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}], "tools": TOOLS})
    none = agent.ok("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}], "tools": TOOLS,
                                                  "tool_choice": {"type": "none"}})
    plain = agent.ok("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]})
    assert plain == none and with_tools["input_tokens"] > none["input_tokens"] + 30


def test_thinking_disabled_reaches_the_template(agent):
    def count(**fields):
        return agent.ok("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}], **fields})["input_tokens"]
    assert count(thinking={"type": "disabled"}) > count() == count(thinking={"type": "adaptive"})


@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
def test_kept_calls_are_read_again(agent):
    """From every place that the stream names: what comes is a whole stream with the rest of the answer."""
    id = agent.post("/v1/messages", body("KEY-CALL", max_tokens=200, tools=TOOLS, background=True)).json()["id"]
    agent.wait_for(lambda: agent.http.get(f"/v1/requests/{id}").json()["status"] == "completed", "it ends")
    raw = agent.http.get(f"/v1/requests/{id}", params={"stream": "true"}).text
    places = re.findall(r"^id: ([0-9.]+)$", raw, re.MULTILINE)
    n_tokens = int(places[-1])
    assert len(places) >= 5 and n_tokens > 30

    def arguments(events):
        return "".join(e["delta"].get("partial_json", "") for e in events if e["type"] == "content_block_delta")
    whole = [e for n, e in parse_named_events([raw.encode()]) if n != "ping"]
    assert json.loads(arguments(whole)) == {"place": "Rome", "days": [1, 2]}
    for place in [*places[:-2], *range(1, n_tokens)]:
        raw = agent.http.get(f"/v1/requests/{id}", params={"stream": "true", "after": place}).content
        rest = check_order([e for n, e in parse_named_events([raw]) if n != "ping"])
        assert streamed_text(whole).endswith(streamed_text(rest)) and arguments(whole).endswith(arguments(rest))
        assert rest[-2] == whole[-2]
