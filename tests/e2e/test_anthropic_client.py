"""Anthropic's Messages API with its official client, streaming and not; every answer is checked against the client's
own types."""
import json
import re
import threading

import anthropic
import anthropic.types as types
import anthropic.types.beta as beta
import httpx
import pydantic
import pytest

from harness import PATIENCE, Server, metric, parse_named_events
from script_rules import PLAIN

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

ALICE = "sk-alice-0123456789abcdef"
HELLO = [{"role": "user", "content": "Say hello."}]
GREEDY = {"temperature": 0}
EVENT = pydantic.TypeAdapter(types.RawMessageStreamEvent)
EPHEMERAL = {"type": "ephemeral"}


def body(messages="Say hello.", **fields):
    messages = messages if isinstance(messages, list) else [{"role": "user", "content": messages}]
    return {"model": "default", "max_tokens": 12, "messages": messages, **fields}


def ask(server, messages="Say hello.", **fields):
    """The body of an answer, checked."""
    answer = server.ok("/v1/messages", body(messages, **fields))
    types.Message.model_validate(answer, strict=True)
    return answer


def stream(server, messages="Say hello.", **fields):
    """Events of a stream, checked one by one and in their order; without pings."""
    with server.http.stream("POST", "/v1/messages", json=body(messages, stream=True, **fields)) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = list(parse_named_events(reply.iter_bytes()))
    assert [name for name, _ in events[:2]] == ["message_start", "ping"] or events[0][0] == "ping"
    return check_order([event for name, event in events if name == event["type"] and name != "ping"])


def check_order(events):
    """message_start, blocks one after another, message_delta, message_stop."""
    for event in events:
        EVENT.validate_python(event)
    kinds = [e["type"] for e in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    index = -1
    open_block = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            index += 1
            assert not open_block
            open_block = True
        elif event["type"] == "content_block_stop":
            assert open_block
            open_block = False
        else:
            assert event["type"] == "content_block_delta" and open_block
        assert event["index"] == index
    assert not open_block
    return events


def text(answer):
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


def streamed_text(events):
    return "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta")


def total(usage):
    return usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]


def check_error(reply, status, kind, message):
    assert reply.status_code == status, reply.text
    error = reply.json()
    if kind != "request_too_large":  # documented, but not among the client's types
        types.ErrorResponse.model_validate(error)
    assert error["type"] == "error" and error["error"]["type"] == kind
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert re.search(message, error["error"]["message"]), error
    if "request_id" in error:
        assert error["request_id"] == reply.headers["request-id"]
    return error


# ---- answers ----

def test_message_object(smollm):
    with smollm.anthropic() as client:
        raw = client.messages.with_raw_response.create(model="smol", max_tokens=8, messages=HELLO)
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["request-id"])
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    answer = raw.parse()
    assert re.fullmatch(r"msg_[0-9a-f]{24}", answer.id)
    assert answer.type == "message" and answer.role == "assistant" and answer.model == "smol"
    assert [block.type for block in answer.content] == ["text"] and answer.content[0].text
    assert answer.stop_reason in ("max_tokens", "end_turn") and answer.stop_sequence is None
    assert answer.usage.output_tokens <= 8 and answer.usage.service_tier == "standard"
    types.Message.model_validate(answer.to_dict(mode="json"))


def test_same_text_as_openai(smollm):
    for fields in (GREEDY, {"seed": 3}):
        theirs = smollm.chat([{"role": "system", "content": "Be terse."}, *HELLO], max_tokens=12, **fields)
        ours = ask(smollm, HELLO, system="Be terse.", **fields)
        assert text(ours) == theirs["choices"][0]["message"]["content"]
        assert total(ours["usage"]) == theirs["usage"]["prompt_tokens"]


def test_stream_equals_body(smollm):
    for fields in (GREEDY, {"seed": 31}, {"seed": 32, "system": [{"type": "text", "text": "Be terse."}]}):
        whole, events = ask(smollm, **fields), stream(smollm, **fields)
        assert streamed_text(events) == text(whole)
        assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
        assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
        assert total(events[-2]["usage"]) == total(events[0]["message"]["usage"]) == total(whole["usage"])


def test_client_streams(smollm):
    with smollm.anthropic() as client:
        with client.messages.stream(model="default", max_tokens=12, messages=HELLO, extra_body={"seed": 7}) as events:
            pieces = list(events.text_stream)
            final = events.get_final_message()
        whole = client.messages.create(model="default", max_tokens=12, messages=HELLO, extra_body={"seed": 7})
    assert "".join(pieces) == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens and final.stop_reason == whole.stop_reason
    assert final.id != whole.id


def test_async_client(smollm):
    import asyncio

    async def run():
        async with smollm.anthropic_async() as client:
            async def one(i):
                answer = await client.messages.create(model="default", max_tokens=8, messages=HELLO,
                                                      extra_body={"seed": i})
                return answer.content[0].text
            return await asyncio.gather(*(one(i) for i in range(6)))
    assert asyncio.run(run()) == [text(ask(smollm, max_tokens=8, seed=i)) for i in range(6)]


def test_beta_client(tiny):
    """What Claude Code sends: beta headers, ?beta=true, adaptive thinking, context management, effort."""
    thinking_turn = [{"role": "user", "content": "a"},
                     {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm, I see.", "signature": "x"},
                                                       {"type": "text", "text": "b"}]},
                     {"role": "user", "content": "c"},
                     {"role": "assistant", "content": [{"type": "thinking", "thinking": "Well.", "signature": "x"},
                                                       {"type": "text", "text": "d"}]},
                     {"role": "user", "content": "e"}]
    fields = {"model": "default", "max_tokens": 8, "messages": thinking_turn,
              "betas": ["claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"],
              "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
              "metadata": {"user_id": "user_1"}}
    keep_all = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    keep_one = {"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}}]}
    with tiny.anthropic() as client:
        answer = client.beta.messages.create(**fields, context_management=keep_all)
        assert answer.context_management.applied_edits == []
        answer = client.beta.messages.create(**fields, context_management=keep_one)
        beta.BetaMessage.model_validate(answer.to_dict(mode="json"))
        edit, = answer.context_management.applied_edits
        assert edit.type == "clear_thinking_20251015" and edit.cleared_thinking_turns == 1
        assert edit.cleared_input_tokens == len(tiny.tokens("Hm, I see."))
        with client.beta.messages.stream(**fields, context_management=keep_one) as events:
            assert events.get_final_message().stop_reason in ("max_tokens", "end_turn")
        count = client.beta.messages.count_tokens(model="default", messages=thinking_turn, betas=fields["betas"],
                                                  thinking={"type": "adaptive"})
        assert count.input_tokens > 0
    reply = tiny.post("/v1/messages?beta=true", body(), headers={"anthropic-beta": "a-1,b-2", "anthropic-version": "2023-06-01"})
    assert reply.status_code == 200 and "x-tandem-ignored-fields" not in reply.headers


# ---- prompts ----

TOOLS = [{"name": "get_weather", "description": "The weather of a place.",
          "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}]
TOOL_TURNS = [{"role": "user", "content": "How is it in Rome?"},
              {"role": "assistant", "content": [{"type": "text", "text": "I look."},
                                                {"type": "tool_use", "id": "toolu_1", "name": "get_weather",
                                                 "input": {"place": "Rome"}}]},
              {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny."},
                                           {"type": "text", "text": "Well?"}]}]


@pytest.mark.parametrize("fields", [
    {}, {"system": "Be terse."}, {"system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "terse."}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"},
                  {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]},
    {"messages": [*HELLO, {"role": "assistant", "content": "Hello, my"}]},
    {"messages": TOOL_TURNS}, {"messages": TOOL_TURNS, "tools": TOOLS, "tool_choice": {"type": "none"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": {"type": "disabled"}},
    {"system": "x-anthropic-billing-header: cch=1;\nBe terse."},
], ids=str)
def test_count_tokens_equals_usage(smollm, fields):
    fields = {"messages": HELLO, **fields}
    with smollm.anthropic() as client:
        count = client.messages.count_tokens(model="default", **fields)
    types.MessageTokensCount.model_validate(count.to_dict(), strict=True)
    assert count.input_tokens == total(ask(smollm, max_tokens=1, **fields)["usage"])


def test_tool_turns_are_openais(smollm):
    """The same prompt as the chat route makes of the same conversation."""
    theirs = smollm.ok("/tokenize", {"messages": [
        {"role": "user", "content": "How is it in Rome?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"place":"Rome"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "Sunny."},
        {"role": "user", "content": "Well?"}]})["count"]
    assert smollm.ok("/v1/messages/count_tokens", {"messages": TOOL_TURNS})["input_tokens"] == theirs


def test_prefill(smollm):
    start = "Hello! My name is"
    ours = ask(smollm, [*HELLO, {"role": "assistant", "content": start}], **GREEDY)
    theirs = smollm.chat([*HELLO, {"role": "assistant", "content": start}], max_tokens=12, continue_final_message=True,
                         add_generation_prompt=False, **GREEDY)
    assert text(ours) == theirs["choices"][0]["message"]["content"] and not text(ours).startswith(start)
    assert total(ours["usage"]) == theirs["usage"]["prompt_tokens"]


def test_patterns_of_names(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--served-model-name", "claude-*") as server:
        for name in ("claude-opus-4-8", "claude-3-5-haiku-20241022"):
            with server.anthropic() as client:
                assert client.messages.create(model=name, max_tokens=2, messages=HELLO).model == name
                assert client.models.retrieve(name).id == name


# ---- the cache ----

LONG = "Please read this carefully, since all of it matters. " * 30


def test_cache_usage(tiny):
    system = [{"type": "text", "text": "One. " + LONG, "cache_control": EPHEMERAL}]
    count = tiny.ok("/v1/messages/count_tokens", {"messages": HELLO, "system": system})["input_tokens"]
    first, again = (ask(tiny, system=system)["usage"] for _ in range(2))
    assert first["cache_read_input_tokens"] == 0 and first["cache_creation_input_tokens"] > count // 2
    assert again["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert again["cache_creation_input_tokens"] == 0
    assert total(first) == total(again) == count
    events = stream(tiny, system=system)
    assert events[0]["message"]["usage"]["cache_read_input_tokens"] == again["cache_read_input_tokens"]
    plain = ask(tiny, system="Two. " + LONG)["usage"]
    assert plain["cache_creation_input_tokens"] == 0 and plain["input_tokens"] == count


def test_prompt_is_warmed(tiny):
    system = [{"type": "text", "text": "Three. " + LONG, "cache_control": EPHEMERAL}]
    warmed = ask(tiny, system=system, max_tokens=0)
    assert warmed["content"] == [] and warmed["stop_reason"] == "max_tokens"
    assert warmed["usage"]["output_tokens"] == 0 and warmed["usage"]["cache_creation_input_tokens"] > 100
    usage = ask(tiny, system=system)["usage"]
    assert usage["cache_read_input_tokens"] == warmed["usage"]["cache_creation_input_tokens"]


def test_volatile_lines(tiny, tiny_path):
    def cached(server, cch):
        return ask(server, system=[{"type": "text", "text": f"x-anthropic-billing-header: cc_version=2; cch={cch};"},
                                   {"type": "text", "text": "Four. " + LONG}])["usage"]["cache_read_input_tokens"]
    before = metric(tiny.metrics(), "tandem_volatile_lines_dropped_total")
    assert cached(tiny, "65abc") == 0 and cached(tiny, "0aaa9") > 100
    assert metric(tiny.metrics(), "tandem_volatile_lines_dropped_total") == before + 2
    with Server(tiny_path, "--kv-memory", "64M", "--drop-volatile-lines", "off") as server:
        assert cached(server, "65abc") == 0 and cached(server, "0aaa9") < 100


# ---- how answers end ----

def test_stop_sequence(scripted):
    whole = ask(scripted, "KEY-PLAIN", max_tokens=100, stop_sequences=["END", "STOP"])
    assert whole["stop_reason"] == "stop_sequence" and whole["stop_sequence"] == "STOP"
    assert text(whole) == PLAIN[:PLAIN.index("STOP")]
    events = stream(scripted, "KEY-PLAIN", max_tokens=100, stop_sequences=["END", "STOP"])
    assert events[-2]["delta"]["stop_reason"] == "stop_sequence" and events[-2]["delta"]["stop_sequence"] == "STOP"
    assert streamed_text(events) == text(whole)


def test_other_ends(scripted):
    assert ask(scripted, "KEY-PLAIN", max_tokens=100)["stop_reason"] == "end_turn"
    assert ask(scripted, "KEY-PLAIN", max_tokens=3)["stop_reason"] == "max_tokens"
    empty = ask(scripted, "KEY-EMPTY")
    assert empty["content"] == [] and empty["stop_reason"] == "end_turn"
    assert len(stream(scripted, "KEY-EMPTY")) == 3


def test_context_window(tiny_path, script_path):
    with Server(tiny_path, "--kv-memory", "64M", "--max-context", 256, "--script", script_path) as server:
        clipped = ask(server, "KEY-FAST", max_tokens=100000)
        assert clipped["stop_reason"] == "model_context_window_exceeded"
        assert total(clipped["usage"]) + clipped["usage"]["output_tokens"] == 256
        assert stream(server, "KEY-FAST", max_tokens=100000)[-2]["delta"]["stop_reason"] == "model_context_window_exceeded"
        n = server.ok("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": LONG}]})["input_tokens"]
        assert n > 256
        for streams in (False, True):
            reply = server.post("/v1/messages", body(LONG, stream=streams))
            error = check_error(reply, 400, "invalid_request_error", "^prompt is too long")
            assert error["error"]["message"] == f"prompt is too long: {n} tokens > 255 maximum"


def test_cancelled(scripted):
    """Somebody ends it by its id: the answer is what there was."""
    got = {}
    def run():
        with scripted.http.stream("POST", "/v1/messages", json=body("KEY-SLOW", max_tokens=2000, stream=True)) as reply:
            for name, event in parse_named_events(reply.iter_bytes()):
                if name == "message_start":
                    got["id"] = event["message"]["id"]
                got[name] = event
    thread = threading.Thread(target=run)
    thread.start()
    scripted.wait_for(lambda: "content_block_delta" in got, "tokens come")
    assert scripted.http.post(f"/v1/requests/{got['id']}/cancel").status_code == 200
    thread.join(20 * PATIENCE)
    assert got["message_delta"]["delta"]["stop_reason"] == "pause_turn" and "message_stop" in got


def test_pings_keep_a_stream_alive(scripted):
    with scripted.http.stream("POST", "/v1/messages", json=body("KEY-LATE", stream=True)) as reply:
        names = [name for name, _ in parse_named_events(reply.iter_bytes())]
    assert names.count("ping") >= 2 and names[-1] == "message_stop"


# ---- errors ----

def test_stream_that_fails(scripted):
    with scripted.http.stream("POST", "/v1/messages", json=body("KEY-FAIL", max_tokens=100, stream=True)) as reply:
        events = list(parse_named_events(reply.iter_bytes()))
    name, event = events[-1]
    assert name == "error" and event["error"]["type"] == "api_error"
    types.ErrorResponse.model_validate(event)
    with scripted.anthropic() as client, pytest.raises(anthropic.APIStatusError) as caught:
        for _ in client.messages.create(model="default", max_tokens=100, stream=True,
                                        messages=[{"role": "user", "content": "KEY-FAIL"}]):
            pass
    assert caught.value.type == "api_error"
    check_error(scripted.post("/v1/messages", body("KEY-FAIL", max_tokens=100)), 500, "api_error", ".")


@pytest.mark.parametrize("fields, message", [
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
     r"messages\[0\]\.content\[0\].*text only.*'image'"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "'document'"),
    ({"messages": []}, "1 to"), ({"max_tokens": None}, "max_tokens"), ({"temperature": "x"}, "temperature"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    ({"container": "c"}, "container"), ({"thinking": {"type": "enabled"}}, r"thinking\.budget_tokens"),
    ({"messages": TOOL_TURNS[:2]}, "`tool_use` ids were found without `tool_result` blocks"),
    ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.*compact_20260112"),
    ({"metadata": {"user_id": 5}}, "'metadata.user_id': expected a string"),
], ids=str)
def test_bad_requests(tiny, fields, message):
    check_error(tiny.post("/v1/messages", body(**{"messages": HELLO, **fields})), 400, "invalid_request_error", message)


def test_client_raises_what_it_knows(tiny):
    with tiny.anthropic() as client:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(model="default", max_tokens=5, messages=[])
        assert caught.value.type == "invalid_request_error" and caught.value.request_id.startswith("req_")
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(model="other", max_tokens=5, messages=HELLO)
        assert caught.value.type == "not_found_error"


def test_errors_before_the_route(tiny):
    check_error(tiny.http.get("/v1/messages"), 405, "invalid_request_error", "GET")
    check_error(tiny.http.post("/v1/messages/nothing", json={}), 404, "not_found_error", "/v1/messages/nothing")
    check_error(tiny.http.get("/v1/nothing", headers={"anthropic-version": "2023-06-01"}), 404, "not_found_error", ".")
    check_error(tiny.http.post("/v1/messages", content=b"{", headers={"content-type": "application/json"}), 400,
                "invalid_request_error", "JSON|json|line")
    check_error(tiny.http.post("/v1/messages", content=b"{}", headers={"content-type": "text/plain"}), 415,
                "invalid_request_error", "text/plain")
    assert "error" in tiny.http.get("/v1/nothing").json() and "type" not in tiny.http.get("/v1/nothing").json()


def test_limits_and_keys(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--max-body", "64K", env={"TANDEM_API_KEY": ALICE}, api_key=ALICE) as server:
        check_error(server.post("/v1/messages", body("a" * 70000)), 413, "request_too_large", "at most 65536 bytes")
        for key in ({}, {"x-api-key": "sk-wrong-0123456789"}):
            with httpx.Client(base_url=server.url) as http:
                check_error(http.post("/v1/messages", json=body(), headers=key), 401, "authentication_error", "API key")
        with server.anthropic() as client:
            assert client.messages.create(model="default", max_tokens=2, messages=HELLO).content
        with server.anthropic(api_key="sk-wrong-0123456789") as client, pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model="default", max_tokens=2, messages=HELLO)


DEFAULTS = {"container": None, "inference_geo": "global", "speed": "standard", "service_tier": "standard_only",
            "mcp_servers": [], "compaction": None, "fallbacks": "default", "fallback_credit_token": None,
            "thread": None, "output_config": {"effort": "low", "format": None}, "output_format": None,
            "metadata": {"user_id": "u"}, "billing_policy": {"type": "billing_policy", "bill_to": "self"},
            "user_profile_id": "uprof_1", "workspace_id": "wrkspc_1", "betas": ["a-1"], "cache_control": EPHEMERAL,
            "diagnostics": {"previous_message_id": None}, "context_management": {"edits": []}}


def test_defaults_are_accepted(tiny):
    reply = tiny.post("/v1/messages", body(**DEFAULTS))
    assert reply.status_code == 200 and "x-tandem-ignored-fields" not in reply.headers, reply.text
    assert "diagnostics" not in reply.json() and reply.json()["context_management"] == {"applied_edits": []}


@pytest.mark.parametrize("field, value", [
    ("container", "c"), ("inference_geo", "eu"), ("speed", "fast"), ("service_tier", "priority"),
    ("mcp_servers", [{"type": "url", "url": "x", "name": "y"}]), ("compaction", {"type": "summarize"}),
    ("fallbacks", [{"model": "m"}]), ("fallback_credit_token", "t"),
    ("output_config", {"task_budget": {"type": "tokens", "total": 1}}), ("output_format", {"type": "regex"})])
def test_other_values_are_refused_by_name(tiny, field, value):
    check_error(tiny.post("/v1/messages", body(**{field: value})), 400, "invalid_request_error", rf"\b{field}\b")


def test_threads_are_refused_as_clients_expect(tiny):
    """They send all messages then."""
    error = check_error(tiny.post("/v1/messages", body(thread={"type": "create"})), 400, "invalid_request_error", "thread")
    assert error["error"]["details"] == {"error_code": "thread_unsupported_request"}


def test_diagnostics_say_that_nothing_is_known(tiny):
    fields = {"diagnostics": {"previous_message_id": "msg_1"}}
    unknown = {"cache_miss_reason": {"type": "unavailable"}}
    assert ask(tiny, **fields)["diagnostics"] == unknown
    assert stream(tiny, **fields)[0]["message"]["diagnostics"] == unknown


def test_unknown_fields_are_named(tiny):
    reply = tiny.post("/v1/messages", body(what=1))
    assert reply.status_code == 200 and reply.headers["x-tandem-ignored-fields"] == "what"


# ---- models ----

def test_models(smollm):
    with smollm.anthropic() as client:
        page = client.models.list(limit=1)
        listed = [m.id for m in client.models.list(limit=1)]
        one = client.models.retrieve("smol")
        types.ModelInfo.model_validate(one.to_dict(mode="json"))
        assert one.type == "model" and one.id == one.display_name == "smol" and one.max_input_tokens == 2047
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("other")
    assert page.has_more and page.first_id == page.last_id == "smol" and len(page.data) == 1
    assert listed == [m["id"] for m in smollm.http.get("/v1/models").json()["data"]] and "gpt-*" not in listed
    headers = {"anthropic-version": "2023-06-01"}
    last = smollm.http.get("/v1/models", params={"before_id": listed[1], "limit": 1}, headers=headers).json()
    assert [m["id"] for m in last["data"]] == [listed[0]] and not last["has_more"]
    check_error(smollm.http.get("/v1/models?limit=0", headers=headers), 400, "invalid_request_error", "1 to 1000")
    check_error(smollm.http.get("/v1/models?after_id=x", headers=headers), 400, "invalid_request_error", "'x'")
    assert smollm.http.get("/v1/models").json()["object"] == "list"


# ---- kept ----

@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
def test_kept_messages(new_scripted, tmp_path):
    with new_scripted("--journal", tmp_path / "journal") as server:
        reply = server.post("/v1/messages", body("KEY-PLAIN", max_tokens=100, background=True))
        assert reply.status_code == 202
        id = reply.json()["id"]
        assert id.startswith("msg_")
        server.wait_for(lambda: server.http.get(f"/v1/requests/{id}").json()["status"] == "completed", "it ends")
        result = server.http.get(f"/v1/requests/{id}").json()["result"]
        types.Message.model_validate(result, strict=True)
        assert text(result) == PLAIN and result["id"] == id
        for after in (None, 5):
            query = {"stream": "true", **({"after": after} if after else {})}
            with server.http.stream("GET", f"/v1/requests/{id}", params=query) as reply:
                events = [e for n, e in parse_named_events(reply.iter_bytes()) if n != "ping"]
            check_order(events)
            assert events[0]["message"]["id"] == id
            assert streamed_text(events) == PLAIN if after is None else PLAIN.endswith(streamed_text(events))
        reply = server.post("/v1/messages", body("KEY-PLAIN", max_tokens=100, detach=True))
        assert text(reply.json()) == PLAIN
        assert json.loads(reply.text)["stop_reason"] == "end_turn"
