"""Tool calls and reasoning through OpenAI's chat: streaming and not, with choices, logprobs, stop strings and flush
intervals; read again from every place; with the engine killed in mid-call; two turns with the official client."""
import json
import os
import re
import signal
import threading

import pytest

from ask import finish
from harness import PATIENCE, chunks, failing_server, together
from script_rules import THOUGHT, TWO_CALLS, WEATHER
from test_journal import attach, background, ended, events, had, kill_gateway, parsed, state

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

CHAT = "/v1/chat/completions"
LONGEST_MARKER = 24  # tokens of a call up to its name: they wait for it
WEATHER_TOOL = {"type": "function", "function": {
    "name": "weather", "description": "Weather of a city.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "array"}}, "required": ["city"]}}}
TIME_TOOL = {"type": "function", "function": {"name": "time"}}
TOOLS = [WEATHER_TOOL, TIME_TOOL]


def body(key, **fields):
    return {"messages": [{"role": "user", "content": key}], "tools": TOOLS, **fields}


def empty():
    return {"content": None, "reasoning": "", "calls": [], "ids": [], "logprobs": [], "finish": None}


def add_delta(found, choice):
    delta = choice["delta"]
    if delta.get("content"):
        found["content"] = (found["content"] or "") + delta["content"]
    if delta.get("reasoning_content"):
        assert delta["reasoning"] == delta["reasoning_content"]
        found["reasoning"] += delta["reasoning_content"]
    for call in delta.get("tool_calls") or []:
        if call.get("id"):
            assert call["index"] == len(found["calls"]) and call["type"] == "function"
            assert call["function"]["name"] and call["function"]["arguments"] == ""
            found["calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
        else:
            assert call["index"] == len(found["calls"]) - 1 and not call["function"].get("name")
            found["calls"][-1]["arguments"] += call["function"]["arguments"]
    found["ids"] += choice.get("token_ids") or []
    found["logprobs"] += [json.dumps(t) for t in (choice.get("logprobs") or {}).get("content") or []]
    found["finish"] = choice["finish_reason"] or found["finish"]


def of_chunks(stream, n=1):
    """What the chunks of a stream say, per choice; calls joined as clients do it."""
    found = [empty() for _ in range(n)]
    for chunk in stream:
        for choice in chunk["choices"]:
            add_delta(found[choice["index"]], choice)
    return found


def of_text(text):
    """What is whole of a stream that was cut."""
    return of_chunks(c for _, c in parsed(text[:text.rindex("\n\n") + 2]))


def of_body(answer):
    found = []
    for choice in answer["choices"]:
        message = choice["message"]
        assert message.get("reasoning") == message.get("reasoning_content")
        found.append({"content": message["content"], "reasoning": message.get("reasoning_content") or "",
                      "calls": [{"id": c["id"], **c["function"]} for c in message.get("tool_calls") or []],
                      "ids": choice.get("token_ids") or [], "finish": choice["finish_reason"],
                      "logprobs": [json.dumps(t) for t in (choice["logprobs"] or {}).get("content") or []]})
    return found


def without_ids(found):
    return [{**c, "calls": [{k: v for k, v in call.items() if k != "id"} for call in c["calls"]]} for c in found]


def check_two_calls(found):
    assert found["reasoning"] == THOUGHT and found["content"].strip() == "Let me see." and found["finish"] == "tool_calls"
    assert [c["name"] for c in found["calls"]] == ["weather", "time"]
    assert json.loads(found["calls"][0]["arguments"]) == json.loads(WEATHER)
    assert found["calls"][1]["arguments"] == "{}"
    assert all(re.fullmatch(r"call_[0-9A-Za-z]{24}", c["id"]) for c in found["calls"])


# ---- answers ----

def test_calls_and_reasoning(agent):
    answer = agent.ok(CHAT, body("KEY-TOOLS"))
    [found] = of_body(answer)
    check_two_calls(found)
    usage = answer["usage"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    of_thought = len(agent.tokens(f"<think>{THOUGHT}"))
    assert abs(reasoning - of_thought) <= 1 < reasoning < usage["completion_tokens"]
    assert usage["completion_tokens"] == len(agent.tokens(TWO_CALLS)) + 1


def test_call_without_text(agent):
    message = agent.ok(CHAT, body("KEY-ONE-TOOL"))["choices"][0]["message"]
    assert message["content"] is None and len(message["tool_calls"]) == 1
    assert "reasoning_content" not in message and message["refusal"] is None


def test_ids_of_calls_differ(agent):
    answers = [agent.ok(CHAT, body("KEY-TOOLS", n=2, seed=1)) for _ in range(3)]
    found = [c["id"] for a in answers for choice in a["choices"] for c in choice["message"]["tool_calls"]]
    assert len(found) == 12 == len(set(found))


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"stream_interval_tokens": 9}, {"stream_interval_ms": 40},
                                    {"parallel_tool_calls": False}, {"include_reasoning": False}, {"max_tokens": 30}])
@pytest.mark.parametrize("key", ["KEY-TOOLS", "KEY-TOOL-CHOICES", "KEY-ONE-TOOL"])
def test_stream_equals_body(agent, key, fields):
    fields = {"logprobs": True, "top_logprobs": 2, "return_token_ids": True, "seed": 3, **fields}
    whole = of_body(agent.ok(CHAT, body(key, **fields)))
    stream = chunks(agent.stream(CHAT, body(key, **fields)))
    found = of_chunks(stream, fields.get("n", 1))
    for choice in whole:
        choice["content"] = choice["content"] or None  # a stream does not say that it is empty
    assert without_ids(found) == without_ids(whole)
    assert stream[0]["choices"][0]["delta"]["role"] == "assistant"
    for choice in found:
        assert len(choice["ids"]) == len(choice["logprobs"])


def test_every_token_comes_once(agent):
    """With its logprob, in order; so also the markers, which are in no text."""
    stream = of_chunks(chunks(agent.stream(CHAT, body("KEY-TOOLS", logprobs=True, return_token_ids=True))))[0]
    assert stream["ids"] == agent.tokens(TWO_CALLS)
    text = b"".join(bytes(json.loads(t)["bytes"]) for t in stream["logprobs"])
    assert text.decode() == TWO_CALLS


def test_first_chunks_of_a_call(agent):
    deltas = [c["choices"][0]["delta"] for c in chunks(agent.stream(CHAT, body("KEY-ONE-TOOL"))) if c["choices"]]
    assert deltas[0] == {"role": "assistant", "content": None}
    [begin] = deltas[1]["tool_calls"]
    assert begin == {"index": 0, "id": begin["id"], "type": "function", "function": {"name": "weather", "arguments": ""}}
    assert deltas[2]["tool_calls"][0].keys() == {"index", "function"}
    assert deltas[-1] == {}
    slow = of_calls(agent.stream(CHAT, body("KEY-SLOW-TOOLS")))
    assert len(slow) > 10  # arguments come as they are written


def of_calls(stream):
    return [c for c in chunks(stream) if c["choices"] and c["choices"][0]["delta"].get("tool_calls")]


def test_one_call_at_most(agent):
    [found] = of_body(agent.ok(CHAT, body("KEY-TOOLS", parallel_tool_calls=False)))
    assert [c["name"] for c in found["calls"]] == ["weather"] and found["finish"] == "tool_calls"


def test_cut_off_in_a_call(agent):
    [found] = of_body(agent.ok(CHAT, body("KEY-TOOL-CUT", max_tokens=12)))
    assert found["finish"] == "length" and found["calls"][0]["name"] == "weather"
    with pytest.raises(json.JSONDecodeError):
        json.loads(found["calls"][0]["arguments"])


def test_stop_string_in_a_call(agent):
    answer = agent.ok(CHAT, body("KEY-TOOL-STOP", stop=["STOP"]))
    [found] = of_body(answer)
    assert found["calls"][0]["arguments"].endswith('"a ') and answer["choices"][0]["stop_reason"] == "STOP"
    assert found["finish"] == "stop"
    assert of_chunks(chunks(agent.stream(CHAT, body("KEY-TOOL-STOP", stop=["STOP"]))))[0]["finish"] == "stop"
    [found] = of_body(agent.ok(CHAT, body("KEY-TOOLS", stop=["\n<tool_call>\n{\"name\": \"time"])))
    assert len(found["calls"]) == 1 and found["finish"] == "tool_calls"  # it came behind the call


def test_reasoning_hidden(agent):
    answer = agent.ok(CHAT, body("KEY-TOOLS", include_reasoning=False))
    assert "reasoning_content" not in answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 5
    stream = chunks(agent.stream(CHAT, body("KEY-TOOLS", include_reasoning=False)))
    assert not any("reasoning" in str(c["choices"]) for c in stream)


def test_the_prompt_opens_the_reasoning(agent):
    for fields in ({"enable_thinking": True}, {"chat_template_kwargs": {"enable_thinking": True}}):
        [found] = of_body(agent.ok(CHAT, body("KEY-OPEN", **fields)))
        assert found["reasoning"] == "Hm." and found["content"] == "Yes.", fields
    [found] = of_body(agent.ok(CHAT, body("KEY-OPEN", reasoning_effort="none")))
    assert not found["reasoning"] and "</think>" in found["content"] and "Yes." in found["content"]


def test_raw_output_and_no_tools(agent):
    answer = agent.ok(CHAT, body("KEY-TOOLS", raw_output=True))
    assert answer["choices"][0]["message"]["content"] == TWO_CALLS and finish(answer) == "stop"
    for fields in ({"tool_choice": "none"}, {"tools": None}):
        [found] = of_body(agent.ok(CHAT, body("KEY-TOOLS", **fields)))
        assert found["reasoning"] == THOUGHT and not found["calls"] and "<tool_call>" in found["content"]
        assert found["finish"] == "stop"


def test_only_allowed_tools_are_shown(agent):
    allowed = {"type": "allowed_tools", "allowed_tools": {
        "mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]}}
    every = agent.ok(CHAT, body("KEY-PLAIN"))["usage"]["prompt_tokens"]
    some = agent.ok(CHAT, body("KEY-PLAIN", tool_choice=allowed))["usage"]["prompt_tokens"]
    assert some == agent.ok(CHAT, body("KEY-PLAIN", tools=[TIME_TOOL]))["usage"]["prompt_tokens"] < every


def test_legacy_functions(agent):
    fields = {"messages": [{"role": "user", "content": "KEY-TOOLS"}], "functions": [t["function"] for t in TOOLS]}
    choice = agent.ok(CHAT, {**fields, "function_call": "auto"})["choices"][0]
    assert choice["finish_reason"] == "function_call" and "tool_calls" not in choice["message"]
    call = choice["message"]["function_call"]
    assert call["name"] == "weather" and json.loads(call["arguments"]) == json.loads(WEATHER)
    deltas = [c["choices"][0]["delta"].get("function_call") for c in chunks(agent.stream(CHAT, fields))]
    deltas = [d for d in deltas if d]
    assert deltas[0] == {"name": "weather", "arguments": ""}
    assert "".join(d["arguments"] for d in deltas) == call["arguments"]
    plain = {"messages": [{"role": "user", "content": "KEY-TOOLS"}], "tools": TOOLS}
    assert agent.ok(CHAT, fields)["usage"]["prompt_tokens"] == agent.ok(CHAT, plain)["usage"]["prompt_tokens"]


def test_legacy_conversation(agent):
    """It is what the newer form is."""
    call = {"name": "weather", "arguments": WEATHER}
    old = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "function_call": call},
           {"role": "function", "name": "weather", "content": "30"}]
    new = [old[0], {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "30"}]
    fields = {"prompt_logprobs": 0, "max_tokens": 1}
    assert agent.ok(CHAT, {"messages": old, **fields})["prompt_logprobs"] == agent.ok(
        CHAT, {"messages": new, **fields})["prompt_logprobs"]
    for wrong, param in (({"name": "f"}, ".arguments"), ({"arguments": "{}"}, ".name"), (5, "")):
        reply = agent.post(CHAT, {"messages": [{**old[1], "function_call": wrong}]})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == f"messages[0].function_call{param}"


def test_reasoning_in_a_conversation(agent):
    for name in ("reasoning_content", "reasoning"):
        said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A", name: "because"}]
        assert "<think>because</think>A" in agent.ok("/apply-template", {"messages": said})["prompt"]
        reply = agent.post(CHAT, {"messages": [{**said[1], name: 5}]})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == f"messages[0].{name}"


# ---- fields ----

def named(name, **fields):
    return {"tools": [{"type": "function", "function": {"name": name, **fields}}]}


BIG = {"type": "object", "properties": {"a": {"description": "x" * (1 << 20)}}}
REFUSED = [
    ({"tools": {}}, "tools", "an array"),
    ({"tools": [5]}, "tools[0]", "an object"),
    ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type", "Missing"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "'custom'"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing"),
    (named(None), "tools[0].function.name", "Missing"),
    (named(""), "tools[0].function.name", "1 to 64"),
    (named("a" * 65), "tools[0].function.name", "1 to 64"),
    (named("a b"), "tools[0].function.name", "'a b'"),
    (named("f", parameters=[]), "tools[0].function.parameters", "an object"),
    (named("f", description=5), "tools[0].function.description", "a string"),
    (named("f", strict="yes"), "tools[0].function.strict", "a boolean"),
    (named("f", parameters=BIG), "tools[0].function.parameters", "1048576 bytes"),
    ({"tools": [TIME_TOOL, TIME_TOOL]}, "tools", "two are named 'time'"),
    ({"tools": [TIME_TOOL] * 513}, "tools", "at most 512"),
    ({"tool_choice": "any"}, "tool_choice", "\"required\""),
    ({"tool_choice": 5}, "tool_choice", "a string or an object"),
    ({"tool_choice": {"type": "function"}}, "tool_choice", "function"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "no tool 'x'"),
    ({"tool_choice": "required", "tools": None}, "tool_choice", "the request has none"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x"}}}, "tool_choice.allowed_tools.mode", "auto"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
     "tool_choice.allowed_tools.tools", "not empty"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
        {"type": "function", "function": {"name": "x"}}]}}}, "tool_choice.allowed_tools.tools", "no tool 'x'"),
    ({"functions": [{"name": "f"}]}, "functions", "exclude each other"),
    ({"functions": [{"name": "f f"}], "tools": None}, "functions[0].name", "1 to 64"),
    ({"functions": [{"name": "f"}], "tools": None, "function_call": {"name": "g"}}, "function_call", "no tool 'g'"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "none of none, minimal"),
    ({"reasoning_effort": "none", "enable_thinking": True}, "reasoning_effort", "enable_thinking"),
    ({"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs", "different"),
    ({"thinking_token_budget": -2}, "thinking_token_budget", "from -1"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "Missing"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}},
     "response_format.json_schema.schema", "an object"),
]


@pytest.mark.parametrize("fields, param, words", REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(agent, fields, param, words):
    reply = agent.post(CHAT, body("KEY-PLAIN", **fields))
    assert reply.status_code in (400, 413), reply.text
    error = reply.json()["error"]
    assert error["param"] == param and words in error["message"] and f"'{param}'" in error["message"], error


def test_a_model_without_tools(scripted):
    reply = scripted.post(CHAT, body("KEY-PLAIN"))
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "tools"
    assert "--tool-format" in reply.json()["error"]["message"]
    assert scripted.post(CHAT, body("KEY-PLAIN", tool_choice="none")).status_code == 200


def test_formats_are_told(agent, scripted):
    model = agent.http.get("/v1/models").json()["data"][0]
    assert (model["tool_format"], model["reasoning_format"]) == ("hermes", "think")
    status = agent.model_status()
    assert (status["tool_format"], status["reasoning_format"]) == ("hermes", "think")
    model = scripted.http.get("/v1/models").json()["data"][0]
    assert model["tool_format"] is None and model["reasoning_format"] is None


def test_formats_are_options(new_scripted, agent_template, tiny_path):
    with new_scripted("--chat-template", agent_template, "--tool-format", "none", "--reasoning-format", "none") as server:
        reply = server.post(CHAT, {"messages": [{"role": "user", "content": "KEY-TOOLS"}]})
        assert reply.json()["choices"][0]["message"]["content"] == TWO_CALLS
    with new_scripted("--tool-format", "hermes", "--reasoning-format", "think") as server:
        check_two_calls(of_body(server.ok(CHAT, body("KEY-TOOLS")))[0])
    with failing_server(tiny_path, "--tool-format", "x") as (status, log):
        assert status != 0 and "--tool-format: 'x' is none of auto, none, " in log


# ---- read again, and with a lost engine ----

@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
@pytest.mark.parametrize("fields", [{}, {"n": 3, "stop": ["STOP"]}])
def test_reattach_at_every_place(new_scripted, agent_template, tmp_path, fields):
    """What a reader had up to a place, and what comes behind it, are the whole: the ids of calls too."""
    key = "KEY-TOOL-CHOICES" if fields else "KEY-SLOW-TOOLS"
    asked = body(key, stream=True, logprobs=True, return_token_ids=True, seed=5, **fields)
    n = fields.get("n", 1)
    with new_scripted("--journal", tmp_path / "journal", "--chat-template", agent_template) as server:
        whole = of_chunks((c for _, c in events(server.post(CHAT, asked))), n)
        running = background(server, CHAT, asked)
        live = together([lambda: attach(server, running)] * 2)
        result = of_body(ended(server, running)["result"])
        first = attach(server, running)
        again = of_chunks((c for _, c in first), n)
        assert without_ids(again) == without_ids(whole)
        assert [c["calls"] for c in again] == [c["calls"] for c in result]
        for found in live:
            assert of_chunks((c for _, c in found), n) == again
        for cut in range(len(first) + 1):
            seen, place = had(first[:cut])
            both = of_chunks((c for _, c in [*seen, *attach(server, running, place)]), n)
            assert both == again, (cut, place)
        for k in range(len(again[0]["ids"]) + 1 if n == 1 else 0):
            rest = [i for _, c in attach(server, running, k) for choice in c["choices"] for i in choice.get("token_ids", [])]
            assert rest == again[0]["ids"][len(again[0]["ids"]) - len(rest):], k
            assert k <= len(again[0]["ids"]) - len(rest) + LONGEST_MARKER, k


@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
def test_gateway_killed_in_mid_call(new_scripted, agent_template, tmp_path):
    """A reader comes back to the next gateway: its calls go on with the ids that they had."""
    options = ("--journal", tmp_path / "journal", "--chat-template", agent_template)
    asked = body("KEY-SLOW-TOOLS", stream=True, return_token_ids=True, detach=True)
    with new_scripted(*options) as server:
        with server.new_http() as http, http.stream("POST", CHAT, json=asked) as reply:
            id, got = reply.headers["content-location"].rsplit("/", 1)[1], ""
            for text in reply.iter_text():
                got += text
                if got.count("tool_calls") > 12:
                    break
            server.wait_for(lambda: state(server, id)["generated_tokens"] >= len(of_text(got)[0]["ids"]), "they are saved")
            kill_gateway(server)
    got = got[:got.rindex("\n\n") + 2]
    first, place = had(parsed(got))
    with new_scripted(*options) as server:
        result = of_body(ended(server, id)["result"])[0]
        both = of_chunks((c for _, c in [*first, *attach(server, id, place)]))[0]
        check_two_calls(both)
        assert both == result


@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
def test_engine_killed_in_mid_call(new_scripted, agent_template):
    with new_scripted("--chat-template", agent_template) as server:
        seen = threading.Semaphore(0)

        def read():
            found = []
            for kind, chunk in server.stream(CHAT, body("KEY-SLOW-TOOLS", seed=4)):
                if kind == "data":
                    found.append(chunk)
                    if "tool_calls" in json.dumps(chunk):
                        seen.release()
            return found

        def kill():
            for _ in range(5):
                assert seen.acquire(timeout=20 * PATIENCE), "no call comes"
            engine = server.engine()
            os.kill(engine["pid"], signal.SIGKILL)
            server.wait_for(lambda: server.engine()["restarts"] > engine["restarts"], "the loss is noticed")

        found, whole, _ = together([read, lambda: server.ok(CHAT, body("KEY-SLOW-TOOLS", seed=4)), kill])
        assert server.engine()["restarts"] == 1
        check_two_calls(of_chunks(found)[0])
        check_two_calls(of_body(whole)[0])


# ---- the official client ----

def test_two_turns(agent):
    messages = [{"role": "user", "content": "KEY-TOOLS"}]
    with agent.openai() as client:
        first = client.chat.completions.create(model="default", messages=messages, tools=TOOLS)
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls" and message.reasoning_content == THOUGHT
        messages.append(message)
        for call in message.tool_calls:
            assert call.type == "function"
            result = json.dumps({"KEY-RESULT": json.loads(call.function.arguments)})
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        second = client.chat.completions.create(model="default", messages=messages, tools=TOOLS)
        assert second.choices[0].message.content == "It is 30 °C." and second.choices[0].finish_reason == "stop"
        assert second.choices[0].message.reasoning_content == "Warm."
        assert second.usage.prompt_tokens_details.cached_tokens > 0
        rendered = agent.ok("/apply-template", {"tools": TOOLS, "messages": json.loads(json.dumps(
            [m if isinstance(m, dict) else m.model_dump(exclude_none=True) for m in messages]))})["prompt"]
        assert "São 🌍 Paulo" in rendered and "KEY-RESULT" in rendered


def test_two_turns_of_a_stream(agent):
    with agent.openai() as client:
        messages = [{"role": "user", "content": "KEY-ONE-TOOL"}]
        with client.chat.completions.stream(model="default", messages=messages, tools=TOOLS) as stream:
            kinds = {event.type for event in stream}
            message = stream.get_final_completion().choices[0].message
        assert "tool_calls.function.arguments.delta" in kinds and "tool_calls.function.arguments.done" in kinds
        [call] = message.tool_calls
        assert json.loads(call.function.arguments) == json.loads(WEATHER)
        messages += [message.model_dump(exclude_none=True, exclude={"parsed"}),
                     {"role": "tool", "tool_call_id": call.id, "content": "KEY-RESULT"}]
        for m in messages:
            for c in m.get("tool_calls", []):
                c["function"].pop("parsed_arguments", None)
        with client.chat.completions.stream(model="default", messages=messages, tools=TOOLS) as stream:
            assert stream.get_final_completion().choices[0].message.content == "It is 30 °C."
