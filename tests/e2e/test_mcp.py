"""Tools of MCP servers in requests: conversations of five turns through every API and the official clients, and what
happens when a server hangs, crashes or talks nonsense, the client leaves, or the engine ends in the middle."""
import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import sqlite3
import sys
import time

import anthropic
import pytest

from harness import PATIENCE, ROOT, Server, failing_server, metric
from otlp_collector import Collector
from test_journal import attach, ended, events, kill_gateway, state

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

FAULTY = ROOT / "tests" / "tools" / "mcp_faulty.py"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
CLOCK = {"type": "object", "properties": {}}
CLOCK_TOOLS = {CHAT: {"type": "function", "function": {"name": "clock", "parameters": CLOCK}},
               MESSAGES: {"name": "clock", "input_schema": CLOCK},
               RESPONSES: {"type": "function", "name": "clock", "parameters": CLOCK}}


def python(*words, **more):
    return {"command": sys.executable, "args": [str(FAULTY), "stdio", *words], **more}


def write_config(folder, **servers):
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def servers_of(server):
    return {s["name"]: s for s in server.get("/v1/mcp/servers")["data"]}


def wait_for_servers(server, *names):
    server.wait_for(lambda: all(servers_of(server)[n]["state"] == "ready" for n in names), "MCP servers")


class McpServer(Server):
    def get(self, path):
        reply = self.http.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture(scope="module")
def make(tiny_path, script_path, agent_template):
    def make(config, *options, **more):
        return McpServer(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", script_path, "--chat-template",
                         agent_template, *(["--mcp-config", config] if config else []), *options, **more)
    return make


@pytest.fixture(scope="module")
def mcp(make, tmp_path_factory):
    """Two servers: one of the older revisions, one of the newest, whose tools have names of their own."""
    config = write_config(tmp_path_factory.mktemp("mcp"), main=python(deny=["structured"], timeout=700),
                          other=python("--era", "modern", allow=["structured"]), off=python(disabled=True))
    with make(config, "--mcp-max-turns", 6) as server:
        wait_for_servers(server, "main", "other")
        yield server


def tools_of(path, names=("main", "other")):
    """How the API asks for the tools of these servers."""
    if path == CHAT:
        return {"mcp": list(names)}
    if path == MESSAGES:
        return {"mcp_servers": [{"type": "url", "name": n} for n in names],
                "tools": [{"type": "mcp_toolset", "mcp_server_name": n} for n in names]}
    return {"tools": [{"type": "mcp", "server_label": n, "require_approval": "never"} for n in names]}


def body(path, key, **fields):
    if path == RESPONSES:
        return {"input": key, **tools_of(path), **fields}
    more = {"max_tokens": 200} if path == MESSAGES else {}
    return {"messages": [{"role": "user", "content": key}], **more, **tools_of(path), **fields}


def said(path, answer):
    """What a body says: (text, [(server, tool, arguments, output, is_error)])."""
    if path == CHAT:
        m = answer["choices"][0]["message"]
        return m["content"], [(c["server"], c["name"], json.loads(c["arguments"]), c["output"], c["is_error"])
                              for c in m.get("mcp_calls", [])]
    if path == MESSAGES:
        blocks = answer["content"]
        results = {b["tool_use_id"]: b for b in blocks if b["type"] == "mcp_tool_result"}
        return "".join(b["text"] for b in blocks if b["type"] == "text"), [
            (b["server_name"], b["name"], b["input"], results[b["id"]]["content"][0]["text"], results[b["id"]]["is_error"])
            for b in blocks if b["type"] == "mcp_tool_use"]
    items = answer["output"]
    return "".join(p["text"] for i in items if i["type"] == "message" for p in i["content"]), [
        (i["server_label"], i["name"], json.loads(i["arguments"]),
         i["output"] if i["error"] is None else i["error"]["content"][0]["text"], i["error"] is not None)
        for i in items if i["type"] == "mcp_call"]


def echoed(key, n):
    return ("main", "echo", {"text": f"{key}-{n}"}, f"{key}-{n}", False)


FIVE = [echoed("KEY-MCP-FIVE", 1), ("other", "structured", {}, '{"answer":42}', False),
        *(echoed("KEY-MCP-FIVE", n) for n in (2, 3, 4))]


# ---- five turns ----

@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_five_turns(mcp, path):
    answer = mcp.ok(path, body(path, "KEY-MCP-FIVE"))
    text, calls = said(path, answer)
    assert calls == FIVE and re.sub(r"\s", "", text) == "Ilook.Both.Alldone."
    usage = answer["usage"]
    if path == CHAT:
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["choices"][0]["message"]["reasoning_content"] == "Hm."
        assert usage["prompt_tokens"] > 5 * 800 and usage["completion_tokens"] > 150
    elif path == MESSAGES:
        assert answer["stop_reason"] == "end_turn" and usage["output_tokens"] > 150
        kinds = [b["type"] for b in answer["content"]]
        assert kinds[:3] == ["text", "mcp_tool_use", "mcp_tool_result"]
        assert kinds[3:8] == ["text", "mcp_tool_use", "mcp_tool_use", "mcp_tool_result", "mcp_tool_result"]
        assert all(re.fullmatch(r"mcptoolu_\w{24}", b["id"]) for b in answer["content"] if b["type"] == "mcp_tool_use")
    else:
        assert answer["status"] == "completed" and answer["store"] is False
        lists = answer["output"][:2]
        assert [(i["type"], i["server_label"]) for i in lists] == [("mcp_list_tools", "main"), ("mcp_list_tools", "other")]
        assert [t["name"] for t in lists[1]["tools"]] == ["structured"]
        echo = next(t for t in lists[0]["tools"] if t["name"] == "echo")
        assert echo["annotations"]["readOnlyHint"] is True and echo["input_schema"]["type"] == "object"


@pytest.mark.parametrize("stream", [False, True])
def test_spans(make, tmp_path, stream):
    """Each call has a span of its own, within that of the request."""
    config = write_config(tmp_path, main=python(deny=["structured"]), other=python("--era", "modern", allow=["structured"]))
    with Collector() as collector, make(config, "--otlp-endpoint", collector.url) as server:
        wait_for_servers(server, "main", "other")
        trace_id = secrets.token_hex(16)
        reply = server.post(CHAT, body(CHAT, "KEY-MCP-FIVE", stream=stream),
                            headers={"traceparent": f"00-{trace_id}-{'1' * 16}-01"})
        assert reply.status_code == 200
        spans = server.wait_for(lambda: len(collector.trace(trace_id)) >= 9 and collector.trace(trace_id), "spans")
    root = next(s for s in spans if s["kind"] == 2)
    tools = sorted((s for s in spans if s["name"].startswith("execute_tool ")), key=lambda s: int(s["startTimeUnixNano"]))
    given = [s["attributes"] for s in tools]
    assert [(a["tandem.mcp.server"], a["gen_ai.tool.name"]) for a in given] == [call[:2] for call in FIVE]
    assert all(s["name"] == "execute_tool " + a["gen_ai.tool.name"] and s["parentSpanId"] == root["spanId"] and s["status"] == {}
               and int(root["startTimeUnixNano"]) < int(s["startTimeUnixNano"]) < int(s["endTimeUnixNano"]) <
               int(root["endTimeUnixNano"]) for s, a in zip(tools, given))
    assert len({a["gen_ai.tool.call.id"] for a in given}) == 5
    assert all(a["gen_ai.operation.name"] == "execute_tool" and a["gen_ai.tool.type"] == "extension" and "error.type" not in a
               for a in given)
    assert len(spans) == 9 and "KEY-MCP-FIVE" not in repr(collector.spans)


def test_chat_stream(mcp):
    calls, text, usage = [], "", None
    for kind, chunk in mcp.stream(CHAT, body(CHAT, "KEY-MCP-FIVE", stream=True, stream_options={"include_usage": True})):
        if kind != "data":
            continue
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            assert "tool_calls" not in choice["delta"]
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("mcp_calls", []):
                if call["index"] == len(calls):
                    calls.append({})
                for name, value in call.items():
                    calls[call["index"]][name] = calls[call["index"]].get(name, "") + value if name == "arguments" else value
    assert [(c["server"], c["name"], json.loads(c["arguments"]), c["output"], c["is_error"]) for c in calls] == FIVE
    assert len({c["id"] for c in calls}) == 5
    plain = mcp.ok(CHAT, body(CHAT, "KEY-MCP-FIVE"))
    assert text == plain["choices"][0]["message"]["content"] and usage["completion_tokens"] == plain["usage"]["completion_tokens"]


def test_openai_client(mcp):
    client = mcp.openai()
    answer = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "KEY-MCP-FIVE"}],
                                            extra_body={"mcp": True})
    assert len(answer.choices[0].message.mcp_calls) == 5 and answer.choices[0].finish_reason == "stop"
    whole = client.responses.create(model="default", input="KEY-MCP-FIVE", tools=tools_of(RESPONSES)["tools"])
    assert said(RESPONSES, whole.model_dump())[1] == FIVE
    seen, final = [], None
    with client.responses.stream(model="default", input="KEY-MCP-FIVE", tools=tools_of(RESPONSES)["tools"]) as stream:
        for event in stream:
            seen.append(event)
            final = getattr(event, "response", final)
    names = [e.type for e in seen]
    assert names.count("response.mcp_call.in_progress") == names.count("response.mcp_call.completed") == 5
    assert names.count("response.mcp_list_tools.completed") == 2 and "response.mcp_call_arguments.delta" in names
    assert [e.sequence_number for e in seen if hasattr(e, "sequence_number")] == list(range(max(e.sequence_number for e in seen if hasattr(e, "sequence_number")) + 1))
    added = {e.output_index: e.item for e in seen if e.type == "response.output_item.added"}
    done = {e.output_index: e.item for e in seen if e.type == "response.output_item.done"}
    assert sorted(added) == sorted(done) == list(range(len(final.output)))
    assert all(added[i].id == done[i].id == final.output[i].id for i in done)
    assert said(RESPONSES, final.model_dump())[1] == FIVE and said(RESPONSES, final.model_dump())[0] == whole.output_text


def test_anthropic_client(mcp):
    client = mcp.anthropic()
    asked = dict(model="default", max_tokens=200, messages=[{"role": "user", "content": "KEY-MCP-FIVE"}],
                 betas=["mcp-client-2025-11-20"], **tools_of(MESSAGES))
    whole = client.beta.messages.create(**asked)
    assert said(MESSAGES, whole.model_dump())[1] == FIVE
    with client.beta.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert said(MESSAGES, final.model_dump()) == said(MESSAGES, whole.model_dump())
    assert final.usage.output_tokens == whole.usage.output_tokens


# ---- with the client's own tools ----

@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_own_tools_too(mcp, path):
    asked = body(path, "KEY-MCP-MIXED")
    asked["tools"] = [*asked.get("tools", []), CLOCK_TOOLS[path]]
    answer = mcp.ok(path, asked)
    assert said(path, answer)[1] == [echoed("KEY-MCP-MIXED", 1)]
    if path == CHAT:
        message = answer["choices"][0]["message"]
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert [c["function"]["name"] for c in message["tool_calls"]] == ["clock"]
        return
    if path == MESSAGES:
        assert answer["stop_reason"] == "tool_use"
        own = next(b for b in answer["content"] if b["type"] == "tool_use")
        asked["messages"] += [{"role": "assistant", "content": answer["content"]},
                              {"role": "user", "content": [{"type": "tool_result", "tool_use_id": own["id"], "content": "12:00"}]}]
    else:
        own = next(i for i in answer["output"] if i["type"] == "function_call")
        asked["input"] = [{"role": "user", "content": "KEY-MCP-MIXED"}, *answer["output"],
                          {"type": "function_call_output", "call_id": own["call_id"], "output": "12:00"}]
    again = mcp.ok(path, asked)  # what the model sees has the result of the first call
    assert said(path, again) == ("It is noon.", [])
    if path == RESPONSES:
        assert not any(i["type"] == "mcp_list_tools" for i in again["output"])


def test_what_comes_back_is_what_was_said(mcp):
    """Blocks of an answer make the prompt that the next turn had."""
    answer = mcp.ok(MESSAGES, body(MESSAGES, "KEY-MCP-FIVE"))
    messages = [{"role": "user", "content": "KEY-MCP-FIVE"}, {"role": "assistant", "content": answer["content"][:8]},
                {"role": "user", "content": "on"}]
    counted = mcp.ok("/v1/messages/count_tokens", {"messages": messages, **tools_of(MESSAGES)})["input_tokens"]
    bare = mcp.ok("/v1/messages/count_tokens", {"messages": messages[:1], **tools_of(MESSAGES)})["input_tokens"]
    assert counted > bare + 60  # two turns with three calls and their results
    without = mcp.ok("/v1/messages/count_tokens", {"messages": messages[:1]})["input_tokens"]
    assert bare > without + 500  # the tools are in the prompt


# ---- faults ----

@pytest.mark.parametrize("tool, words", [("fail", "it went wrong"), ("hang", "within"), ("crash", "exit"), ("garbage", "JSON"),
                                         ("huge", "bytes")])
def test_fault(make, tmp_path, tool, words):
    """The call has an error as its result, and the conversation goes on; so does the next one."""
    with make(write_config(tmp_path, main=python(timeout=500 if tool == "hang" else 10000))) as server:
        wait_for_servers(server, "main")
        key = f"KEY-MCP-{tool.upper()}"
        asked = body(CHAT, key, mcp=True)
        first, beside = said(CHAT, server.ok(CHAT, asked))[1][:2]
        assert first[:2] == ("main", tool) and first[4] is True and words in first[3] and len(first[3]) < 2000, first
        if tool in ("fail", "hang"):  # the server goes on
            assert beside == echoed(key, 1)
        wait_for_servers(server, "main")
        assert said(CHAT, server.ok(CHAT, asked))[1][0][4] is True


def test_arguments_against_the_schema(mcp):
    text, calls = said(CHAT, mcp.ok(CHAT, body(CHAT, "KEY-MCP-PICKY")))
    assert text == "Survived." and calls[0][4] is True and "schema" in calls[0][3] and calls[1] == echoed("KEY-MCP-PICKY", 1)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_no_more_turns(mcp, path):
    answer = mcp.ok(path, body(path, "KEY-MCP-LOOP"))
    calls = said(path, answer)[1]
    assert [c[4] for c in calls] == [False] * 5 + [True] and "no more turns" in calls[-1][3]
    if path == CHAT:
        assert (answer["choices"][0]["finish_reason"], answer["choices"][0]["stop_reason"]) == ("length", "mcp_max_turns")
    elif path == MESSAGES:
        assert answer["stop_reason"] == "pause_turn" and answer["stop_sequence"] is None
    else:
        assert answer["status"] == "incomplete" and answer["incomplete_details"]["reason"] == "mcp_max_turns"


def test_limit_of_tool_calls(mcp):
    calls = said(RESPONSES, mcp.ok(RESPONSES, body(RESPONSES, "KEY-MCP-FIVE", max_tool_calls=2)))[1]
    assert [c[4] for c in calls[:3]] == [False, False, True] and "limit" in calls[2][3]


def test_deadline_over_all_turns(mcp):
    reply = mcp.post(CHAT, body(CHAT, "KEY-MCP-LOOP", timeout=0.001))
    assert reply.status_code == 504, reply.text


@pytest.mark.parametrize("how", ["disconnect", "cancel"])
def test_client_leaves(mcp, how):
    before = servers_of(mcp)["main"]["restarts"]
    with mcp.new_http() as http, http.stream("POST", CHAT, json=body(CHAT, "KEY-MCP-SLEEP", stream=True)) as reply:
        lines = (line for line in reply.iter_lines() if line.startswith("data: {"))
        ident = json.loads(next(lines)[6:])["id"]
        mcp.wait_for(lambda: servers_of(mcp)["main"]["running_calls"] == 1, "the call")
        assert [r["phase"] for r in mcp.model_status()["requests"]] == ["calling"]
        assert mcp.status()["models"][0]["requests"][0]["prefilled"] == 1
        if how == "cancel":
            assert mcp.post(f"/v1/requests/{ident}/cancel", {}).status_code == 200
            rest = [json.loads(line[6:]) for line in lines]
            assert rest[-1]["choices"][0]["finish_reason"] == "cancelled"
    mcp.wait_for(lambda: servers_of(mcp)["main"]["running_calls"] == 0, "the call's end")
    assert servers_of(mcp)["main"]["restarts"] == before
    mcp.wait_idle()


def test_engine_ends_between_and_in_turns(make, tmp_path):
    with make(write_config(tmp_path, main=python())) as server:
        wait_for_servers(server, "main")
        asked = body(CHAT, "KEY-MCP-PACED", mcp=True, seed=1)
        undisturbed = said(CHAT, server.ok(CHAT, asked))
        text, calls, killed = "", [], set()
        for kind, chunk in server.stream(CHAT, {**asked, "stream": True}):
            for choice in chunk["choices"] if kind == "data" else []:
                text += choice["delta"].get("content") or ""
                calls += [c["output"] for c in choice["delta"].get("mcp_calls", []) if "output" in c]
                mark = (len(calls), len(text) > 5)
                if mark in ((0, True), (1, True)) and mark not in killed:
                    killed.add(mark)
                    os.kill(server.engine()["pid"], signal.SIGKILL)
        assert len(killed) == 2 and (text, calls) == (undisturbed[0], [c[3] for c in undisturbed[1]])


# ---- what is refused ----

@pytest.mark.parametrize("path, fields, words", [
    (CHAT, {"mcp": ["nobody"]}, "nobody"),
    (CHAT, {"mcp": ["off"]}, "disabled"),
    (CHAT, {"mcp": 7}, "mcp"),
    (CHAT, {"n": 2}, "'n'"),
    (CHAT, {"tools": [CLOCK_TOOLS[CHAT]], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
        "mode": "auto", "tools": [{"type": "function", "function": {"name": "clock"}}]}}}, "allowed_tools"),
    (RESPONSES, {"mcp": True, "tools": [CLOCK_TOOLS[RESPONSES]], "tool_choice": {
        "type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "clock"}]}}, "allowed_tools"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "echo"}}]}, "echo"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "name": "main", "url": "http://elsewhere/"}, {"type": "url", "name": "other"}]}, "address"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "name": "mine", "url": "http://elsewhere/"}], "tools": []}, "mine"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "name": "main", "authorization_token": "x"}], "tools": []}, "authorization_token"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "name": "main"}]}, "other"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "main", "require_approval": "always"}]}, "require_approval"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "main"}]}, "require_approval"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://elsewhere/", "require_approval": "never"}]}, "'x'"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "main", "require_approval": "never", "allowed_tools": ["nothing"]}]}, "nothing"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_label": "main", "require_approval": "never", "headers": {"a": "b"}}]}, "headers"),
])
def test_refused(mcp, path, fields, words):
    reply = mcp.post(path, {**body(path, "hello"), **fields})
    assert reply.status_code == 400 and words in reply.text, reply.text


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_without_servers(agent, path):
    reply = agent.post(path, body(path, "hello"))
    assert reply.status_code == 400 and "--mcp-config" in reply.text
    assert agent.http.get("/v1/mcp/servers").json()["data"] == agent.http.get("/v1/mcp/tools").json()["data"] == []


@pytest.mark.parametrize("path, field", [(CHAT, "mcp"), (MESSAGES, "mcp_servers"), (RESPONSES, "tools")])
def test_a_model_that_calls_no_tools(tiny_path, tmp_path, path, field):
    """What is refused is what the request has, by its name."""
    with McpServer(tiny_path, "--threads", 1, "--kv-memory", "64M", "--mcp-config", write_config(tmp_path, main=python())) as server:
        wait_for_servers(server, "main")
        reply = server.post(path, body(path, "hi", **tools_of(path, ["main"])))
        assert reply.status_code == 400 and f"'{field}' is not available: this model's chat template" in reply.text, reply.text
        if path == CHAT:
            reply = server.post(path, {"messages": [{"role": "user", "content": "hi"}], "mcp": True, "tools": [CLOCK_TOOLS[CHAT]]})
            assert reply.status_code == 400 and reply.json()["error"]["param"] == "tools", reply.text


def test_some_of_the_tools(mcp):
    def listed(tools):
        return [t["name"] for i in mcp.ok(RESPONSES, {"input": "hello", "tools": tools})["output"]
                if i["type"] == "mcp_list_tools" for t in i["tools"]]
    main = {"type": "mcp", "server_label": "main", "require_approval": "never"}
    assert listed([{**main, "allowed_tools": ["echo", "fail"]}]) == ["echo", "fail"]
    assert listed([{**main, "allowed_tools": {"read_only": True}}]) == ["echo"]


def test_default(make, tmp_path):
    with make(write_config(tmp_path, main=python(deny=["structured"]), other=python("--era", "modern", allow=["structured"])), "--mcp-default",
              "--mcp-max-turns", 2) as server:
        wait_for_servers(server, "main", "other")
        plain = {"messages": [{"role": "user", "content": "KEY-MCP-FIVE"}]}
        assert [c[4] for c in said(CHAT, server.ok(CHAT, plain))[1]] == [False, True, True]
        for fields in ({"mcp": False}, {"n": 2}, {"tool_choice": "none"}):
            message = server.ok(CHAT, {**plain, **fields})["choices"][0]["message"]
            assert "mcp_calls" not in message and "<tool_call>" in message["content"]


# ---- requests that are kept ----

@pytest.fixture
def kept(make, tmp_path):
    """Servers on one journal, one after the other; `tally` counts its calls in a file."""
    config = write_config(tmp_path, main=python(deny=["structured"], timeout=20000 * PATIENCE, env={
        "TALLY": str(tmp_path / "tally"), "TALLY_SECONDS": str(2.5 * PATIENCE)}), other=python("--era", "modern", allow=["structured"]))

    def start(*options):
        return make(config, "--journal", tmp_path / "journal", *options)
    start.journal = tmp_path / "journal" / "journal.db"
    start.without_mcp = lambda: make(None, "--journal", tmp_path / "journal")
    start.n_tallied = lambda: len((tmp_path / "tally").read_text().split()) if (tmp_path / "tally").exists() else 0
    return start


def ask_in_background(server, path, key, **fields):
    reply = server.post(path, {**body(path, key), "background": True, **fields})
    assert reply.status_code == (200 if path == RESPONSES else 202), reply.text
    return reply.json()["id"]


def result_of(server, path, ident):
    if path == RESPONSES:
        return server.wait_for(lambda: (r := server.get(f"{RESPONSES}/{ident}")) and r["status"] not in ("queued", "in_progress") and r,
                               ident, 60)
    request = ended(server, ident)
    assert request["status"] == "completed", request
    return request["result"]


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_background(kept, path):
    """The answer is the one that an undisturbed client gets; so are its events, while it runs and from the journal."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        direct = said(path, server.ok(path, body(path, "KEY-MCP-FIVE")))
        ident = ask_in_background(server, path, "KEY-MCP-FIVE")
        assert said(path, result_of(server, path, ident)) == direct and direct[1] == FIVE
        kill_gateway(server)
    with kept() as server:
        assert said(path, result_of(server, path, ident)) == direct


def test_stored_by_default(kept):
    with kept("--mcp-default") as server:
        wait_for_servers(server, "main", "other")
        answer = server.ok(RESPONSES, {"input": "KEY-MCP-FIVE", "store": True})
        assert answer["store"] is True and said(RESPONSES, answer)[1] == FIVE
        assert server.get(f"{RESPONSES}/{answer['id']}")["output"] == answer["output"]
        first = server.ok(RESPONSES, body(RESPONSES, "KEY-MCP-FIVE"))
        live = data_of(server.post(RESPONSES, body(RESPONSES, "KEY-MCP-FIVE", stream=True)))
        again = server_events(server, live[-1]["response"]["id"])
        assert [(e["type"], e.get("item_id"), e.get("delta")) for e in again] == [(e["type"], e.get("item_id"), e.get("delta")) for e in live]
        bare = {"input": "KEY-PLAIN", "store": False, "mcp": False}
        after = server.ok(RESPONSES, {**bare, "previous_response_id": first["id"]})  # its calls and results are in the prompt
        assert after["usage"]["input_tokens"] > server.ok(RESPONSES, bare)["usage"]["input_tokens"] + 200
        kill_gateway(server)
    with kept() as server:  # without --mcp-default, and maybe before its servers are ready
        events = server_events(server, answer["id"])
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        assert events[-1]["response"]["output"] == answer["output"]
        for n in range(0, len(events), 37):
            assert server_events(server, answer["id"], starting_after=n) == events[n + 1:]
        kill_gateway(server)
    with kept.without_mcp() as server:
        assert server.get(f"{RESPONSES}/{answer['id']}")["output"] == answer["output"]
        assert server.ok(RESPONSES, {"input": "KEY-PLAIN", "previous_response_id": answer["id"]})["status"] == "completed"
        reply = server.http.get(f"{RESPONSES}/{answer['id']}", params={"stream": "true"})
        assert reply.status_code == 400 and "--mcp-config" in reply.text


def server_events(server, ident, **query):
    return data_of(server.http.get(f"{RESPONSES}/{ident}", params={"stream": "true", **query}))


def data_of(reply):
    assert reply.status_code == 200, reply.text
    return [json.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: {")]


def whole(found):
    """Of chunks: text and calls."""
    text, calls, finish = "", [], []
    for _, chunk in found:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish += [choice["finish_reason"]] if choice["finish_reason"] else []
            for call in choice["delta"].get("mcp_calls", []):
                while call["index"] >= len(calls):
                    calls.append({})
                for name, value in call.items():
                    calls[call["index"]][name] = calls[call["index"]].get(name, "") + value if name == "arguments" else value
    return text, calls, finish[-1:]


def check_places(server, ident, found, n):
    places = [i for i, (place, _) in enumerate(found) if place]
    assert len({found[i][0] for i in places}) >= n and sum("." in found[i][0] for i in places) > 3
    for i in places:
        assert whole(found[:i + 1] + attach(server, ident, found[i][0])) == whole(found), found[i][0]


def test_attach_anywhere(kept):
    """Pieces up to any place and those behind it are the whole answer: of one that runs, and of one that has ended."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        five = ask_in_background(server, CHAT, "KEY-MCP-FIVE", stream=True)
        live = events(server.post(CHAT, body(CHAT, "KEY-MCP-PACED", stream=True, detach=True)))  # an event for each token
        paced = live[0][1]["id"]
        ended(server, five)
        again = attach(server, five)
        assert len(whole(live)[1]) == 2 and len(whole(again)[1]) == 5
        check_places(server, paced, live, 50)
        kill_gateway(server)
    with kept() as server:
        check_places(server, paced, live, 50)
        check_places(server, five, again, 15)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_killed_in_the_second_turn(kept, path):
    with kept() as server:
        wait_for_servers(server, "main", "other")
        undisturbed = said(path, server.ok(path, body(path, "KEY-MCP-PACED")))
        ident = ask_in_background(server, path, "KEY-MCP-PACED")
        server.wait_for(lambda: state(server, ident)["generated_tokens"] > 60, "the second turn")
        kill_gateway(server)
    with kept() as server:
        answer = result_of(server, path, ident)
        assert said(path, answer) == undisturbed
        calls = server.metrics()
        assert metric(calls, "tandem_mcp_calls_total", server="main", outcome="ok") <= 1  # the first one's result was there


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("key, tool", [("KEY-MCP-TALLY", "tally"), ("KEY-MCP-AGAIN", "tally_again")])
def test_killed_in_a_call(kept, path, key, tool):
    """What may be called again is, what may not has an error that says so; the call beside it, which had ended, is not."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, path, key)
        server.wait_for(lambda: kept.n_tallied() == 1, "the call")
        server.wait_for(lambda: journal_has(kept.journal, ident), "the result of the other")
        kill_gateway(server)
    with kept() as server:
        text, calls = said(path, result_of(server, path, ident))
        assert [c[1] for c in calls] == ["echo", tool, "echo"] and calls[2][3] == "beside"
        if tool == "tally":
            assert kept.n_tallied() == 1 and calls[1][4] is True and "may or may not" in calls[1][3]
            assert text.endswith("Who knows.")
        else:
            assert kept.n_tallied() == 2 and calls[1][3:] == (f"{key}-2", False) and text.endswith("Counted.")


def journal_has(journal, ident):
    """Two results, of the echoes, are in the journal."""
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT data FROM tokens WHERE choice = 4294967294 AND request = (SELECT row FROM requests WHERE id = ?)",
                          (ident,)).fetchall()
    return sum("text" in json.loads(data) for data, in rows) == 2


@pytest.mark.parametrize("how", ["call", "tokens"])
def test_damaged(kept, how):
    """What is lost of turns is made again; what is lost of a call may have been made."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, CHAT, "KEY-MCP-TALLY")
        server.wait_for(lambda: kept.n_tallied() == 1, "the call")
        server.wait_for(lambda: journal_has(kept.journal, ident), "the result of the other")
        kill_gateway(server)
    with contextlib.closing(sqlite3.connect(kept.journal)) as db:
        where = "prompt = 1 AND choice = 4294967294" if how == "call" else "prompt = 0 AND choice = 0"
        assert db.execute(f"UPDATE tokens SET sum = sum + 1 WHERE {where}").rowcount > 0
        db.commit()
    with kept() as server:
        text, calls = said(CHAT, result_of(server, CHAT, ident))
        assert kept.n_tallied() == 1 and text.endswith("Who knows.") and "may or may not" in calls[1][3]
        assert [c[1] for c in calls] == ["echo", "tally", "echo"] and metric(server.metrics(), "tandem_mcp_calls_total", server="main", outcome="ok") <= 1
        found = attach(server, ident)
        assert whole(found)[0] == text and len(whole(found)[1]) == 3


def test_cancelled_in_a_call(kept):
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, CHAT, "KEY-MCP-TALLY", stream=True)
        server.wait_for(lambda: kept.n_tallied() == 1, "the call")
        assert server.post(f"/v1/requests/{ident}/cancel", {}).status_code == 200
        request = ended(server, ident)
        assert request["status"] == "cancelled" and said(CHAT, request["result"])[1][1][3:] == ("cancelled.", True)
        found = whole(attach(server, ident))
        assert found[2] == ["cancelled"] and len(found[1]) == 3 and server.ok(CHAT, body(CHAT, "KEY-PLAIN"))


def test_detached(kept):
    """Its client leaves in a call: the answer goes on."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        with server.new_http() as http, http.stream("POST", CHAT, json=body(CHAT, "KEY-MCP-TALLY", stream=True, detach=True)) as reply:
            ident = reply.headers["content-location"].rsplit("/", 1)[1]
            server.wait_for(lambda: kept.n_tallied() == 1, "the call")
        request = ended(server, ident)
        assert said(CHAT, request["result"])[0].endswith("Counted.") and kept.n_tallied() == 1


def test_no_call_without_its_record(kept):
    """While the journal cannot be written no call goes out."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, CHAT, "KEY-MCP-PACED")
        with contextlib.closing(sqlite3.connect(kept.journal, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            server.wait_for(lambda: server.status()["models"][0]["engine"]["stats"]["jobs_finished"] == 1, "the end of the turn")
            time.sleep(0.5)
            assert servers_of(server)["main"]["calls"] == 0
            db.execute("ROLLBACK")
        assert [c[3] for c in said(CHAT, result_of(server, CHAT, ident))[1]] == ["KEY-MCP-PACED-1", "KEY-MCP-PACED-2"]
        assert servers_of(server)["main"]["calls"] == 2


def test_engine_ends_in_a_kept_turn(kept):
    with kept() as server:
        wait_for_servers(server, "main", "other")
        undisturbed = said(CHAT, server.ok(CHAT, body(CHAT, "KEY-MCP-PACED")))
        ident = ask_in_background(server, CHAT, "KEY-MCP-PACED")
        server.wait_for(lambda: state(server, ident)["generated_tokens"] > 60, "the second turn")
        os.kill(server.engine()["pid"], signal.SIGKILL)
        assert said(CHAT, result_of(server, CHAT, ident)) == undisturbed
        assert metric(server.metrics(), "tandem_mcp_calls_total", server="main", outcome="ok") == 4


def test_waits_for_its_servers(kept, tmp_path):
    """It goes on when the servers of its tools have come up, however long that takes."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, CHAT, "KEY-MCP-AGAIN")
        server.wait_for(lambda: kept.n_tallied() == 1, "the call")
        kill_gateway(server)
    config = json.loads((tmp_path / "mcp.json").read_text())
    config["mcpServers"]["main"]["args"] += ["--slow-start", "3"]
    (tmp_path / "mcp.json").write_text(json.dumps(config))
    with kept() as server:
        server.wait_for(lambda: "starting" in (state(server, ident)["reason"] or ""), "the reason")
        assert said(CHAT, result_of(server, CHAT, ident))[0].endswith("Counted.") and kept.n_tallied() == 2


def test_restarted_in_order(kept):
    """SIGTERM in a call: as if it had been killed."""
    with kept() as server:
        wait_for_servers(server, "main", "other")
        ident = ask_in_background(server, CHAT, "KEY-MCP-AGAIN")
        server.wait_for(lambda: kept.n_tallied() == 1, "the call")
    with kept() as server:
        assert said(CHAT, result_of(server, CHAT, ident))[0].endswith("Counted.") and kept.n_tallied() == 2


def test_keys(make, tmp_path):
    """A key pays for the prompts of all turns; the routes need one."""
    key = "k" * 20
    with make(write_config(tmp_path, main=python()), env={"TANDEM_API_KEY": key}, api_key=key) as server:
        wait_for_servers(server, "main")
        usage = server.ok(CHAT, body(CHAT, "KEY-MCP-PACED", mcp=True))["usage"]
        values = server.metrics()
        assert metric(values, "tandem_key_tokens_total", kind="prompt") == usage["prompt_tokens"] > 3000
        assert metric(values, "tandem_key_tokens_total", kind="generated") == usage["completion_tokens"]
        for path in ("/v1/mcp/servers", "/v1/mcp/tools"):
            assert server.http.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert server.http.post("/v1/mcp/execute", json={"tool": "echo"}, headers={"authorization": "x"}).status_code == 401


def test_bad_file(tiny_path, tmp_path):
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"a": {"command": "sh"}}}')
    with failing_server(tiny_path, "--mcp-config", path) as (status, text):
        assert status == 2 and "--mcp-config" in text and "shell" in text


# ---- the routes ----

def test_routes(mcp):
    servers = servers_of(mcp)
    assert servers["main"]["transport"] == "stdio" and servers["main"]["protocol"] == "2025-11-25"
    assert servers["off"]["state"] == "disabled" and servers["other"]["tools"] == 1
    tools = {t["name"]: t for t in mcp.get("/v1/mcp/tools")["data"]}
    assert tools["structured"]["server"] == "other" and tools["echo"]["annotations"]["readOnlyHint"] is True
    assert tools["echo"]["input_schema"]["properties"]["text"]["type"] == "string"

    def execute(**fields):
        return mcp.post("/v1/mcp/execute", fields)
    done = execute(server="main", tool="echo", arguments={"text": "hi"})
    assert done.json() == {"server": "main", "tool": "echo", "content": [{"type": "text", "text": "hi"}], "is_error": False,
                           "structured_content": None}
    assert execute(name="structured").json()["structured_content"] == {"answer": 42}
    assert execute(tool="fail").json()["is_error"] is True
    assert execute(tool="hang").json()["is_error"] is True
    for fields, status, words in [({"tool": "echo", "arguments": {"text": 5}}, 400, "schema"), ({"tool": "nothing"}, 404, "nothing"),
                                  ({}, 400, "tool"), ({"tool": "echo", "server": "nobody"}, 400, "nobody"),
                                  ({"tool": "echo", "arguments": []}, 400, "arguments")]:
        reply = execute(**fields)
        assert reply.status_code == status and words in reply.text, reply.text


def test_metrics_and_log(mcp):
    before = mcp.metrics()
    mcp.ok(CHAT, body(CHAT, "KEY-MCP-FIVE"))
    mcp.ok(CHAT, body(CHAT, "KEY-MCP-PICKY"))
    after = mcp.metrics()

    def grown(name, **labels):
        return metric(after, name, **labels) - metric(before, name, **labels)
    assert grown("tandem_mcp_calls_total", server="main", outcome="ok") == 5
    assert grown("tandem_mcp_calls_total", server="main", outcome="invalid") == 1
    assert grown("tandem_mcp_calls_total", server="other", outcome="ok") == 1
    assert grown("tandem_mcp_turns_total") == 5
    assert grown("tandem_mcp_call_seconds_total", server="main") > 0
    log = mcp.log()
    assert re.search(r"mcp call request=req_\w+ server=main tool=echo outcome=ok ms=\d+", log) and "KEY-MCP-FIVE" not in log
