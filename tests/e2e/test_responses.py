"""/v1/responses with OpenAI's client: bodies and events as its types have them, stored responses, restarts."""
import json
import signal
import time

import openai
import pytest
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter

from harness import together
from script_rules import PLAIN

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

EVENTS = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
def kept(new_scripted, tmp_path):
    """Scripted answers, and a journal."""
    def make(*options, **arguments):
        return new_scripted("--journal", tmp_path / "journal", *options, **arguments)
    return make


def client(server):
    return server.openai(max_retries=0)


def create(server, **body):
    """A response whose body is what the types say."""
    reply = server.post("/v1/responses", {"model": "default", **body})
    assert reply.status_code == 200, reply.text
    Response.model_validate(reply.json())
    return reply.json()


def refused(server, param, status=400, **body):
    reply = server.post("/v1/responses", body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param, error
    return error


def events_of(text):
    found = []
    for event in text.split("\n\n"):
        if not event or event.startswith(":"):
            continue
        name, data = event.split("\n")
        data = json.loads(data.removeprefix("data: "))
        assert name == f"event: {data['type']}"
        EVENTS.validate_python(data)
        found.append(data)
    return found


def stream(server, **body):
    reply = server.post("/v1/responses", {"model": "default", "stream": True, **body})
    assert reply.status_code == 200, reply.text
    return events_of(reply.text)


def read(server, id, **query):
    return server.http.get(f"/v1/responses/{id}", params=query)


def read_events(server, id, after=None):
    query = {"stream": "true", **({} if after is None else {"starting_after": after})}
    reply = read(server, id, **query)
    assert reply.status_code == 200, reply.text
    return events_of(reply.text)


def ended(server, id, timeout=60):
    def look():
        body = read(server, id).json()
        return body if body["status"] not in ("queued", "in_progress") else None
    return server.wait_for(look, f"{id} ends", timeout)


def text_of(response):
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def bare(body):
    """All but what names the run."""
    return {k: v for k, v in body.items() if k not in ("completed_at", "system_fingerprint", "usage")}


# ---- one answer ----

def test_object(scripted):
    body = create(scripted, input="KEY-PLAIN", instructions="Be brief.", metadata={"a": "b"}, user="me",
                  max_output_tokens=400, temperature=0.7)
    assert body["id"].startswith("resp_") and body["object"] == "response" and body["status"] == "completed"
    assert body["error"] is None and body["incomplete_details"] is None and body["store"] is False
    assert body["instructions"] == "Be brief." and body["metadata"] == {"a": "b"} and body["user"] == "me"
    assert body["temperature"] == 0.7 and body["max_output_tokens"] == 400 and body["truncation"] == "disabled"
    assert body["created_at"] <= body["completed_at"] <= time.time() + 1
    item, = body["output"]
    assert item["type"] == "message" and item["role"] == "assistant" and item["status"] == "completed"
    assert item["content"] == [{"type": "output_text", "annotations": [], "logprobs": [], "text": PLAIN}]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


def test_same_prompt_as_chat(scripted):
    """Items become the messages that chat completions take."""
    chat = scripted.post("/v1/chat/completions", {"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two."}, {"role": "user", "content": "KEY-EMPTY"}]}).json()
    body = create(scripted, instructions="Be brief.", input=[
        {"role": "user", "content": "One."},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "Two.", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "KEY-EMPTY"}]}])
    assert body["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert text_of(body) == "" and body["output"][0]["type"] == "message"


def test_length(scripted):
    body = create(scripted, input="KEY-PLAIN", max_output_tokens=3)
    assert body["status"] == "incomplete" and body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete" and body["completed_at"] is None
    assert body["usage"]["output_tokens"] == 3


def test_logprobs(tiny):
    body = create(tiny, input="Hello", max_output_tokens=5, include=["message.output_text.logprobs"], top_logprobs=2,
                  seed=1, ignore_eos=True)
    logprobs = body["output"][0]["content"][0]["logprobs"]
    assert len(logprobs) == 5 and all(len(t["top_logprobs"]) == 2 and t["logprob"] <= 0 for t in logprobs)
    found = stream(tiny, input="Hello", max_output_tokens=5, include=["message.output_text.logprobs"], top_logprobs=2,
                   seed=1, ignore_eos=True)
    deltas = [e for e in found if e["type"] == "response.output_text.delta"]
    assert [t for e in deltas for t in e["logprobs"]] == logprobs


def test_stream(scripted):
    found = stream(scripted, input="KEY-PLAIN")
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    kinds = [e["type"] for e in found]
    deltas = [e for e in found if e["type"] == "response.output_text.delta"]
    assert [k for k in kinds if k != "response.output_text.delta"] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert "".join(e["delta"] for e in deltas) == PLAIN and len(deltas) > 10
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert found[0]["response"]["status"] == "in_progress" and found[0]["response"]["output"] == []
    assert {e["item_id"] for e in deltas} == {found[-2]["item"]["id"]}


def test_stream_of_length(scripted):
    last = stream(scripted, input="KEY-PLAIN", max_output_tokens=3)[-1]
    assert last["type"] == "response.incomplete" and last["response"]["status"] == "incomplete"


def test_stream_that_fails(scripted):
    found = stream(scripted, input="KEY-FAIL")
    assert [e["type"] for e in found[-2:]] == ["error", "response.failed"]
    response = found[-1]["response"]
    assert response["status"] == "failed" and response["error"]["code"] == "server_error"
    assert response["output"][0]["status"] == "incomplete" and text_of(response)


def test_client(scripted):
    with client(scripted) as api:
        response = api.responses.create(model="default", input="KEY-PLAIN")
        assert response.output_text == PLAIN
        with api.responses.stream(model="default", input="KEY-UNICODE") as events:
            for event in events:
                pass
            assert events.get_final_response().output_text
        with pytest.raises(openai.BadRequestError) as refusal:
            api.responses.create(model="default", input="x", store=True)
        assert refusal.value.param == "store"


# ---- reasoning and calls ----

TOOLS = [{"type": "function", "name": "weather", "description": "Of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}},
    {"type": "function", "name": "clock"}]
FORMATS = ("--tool-format", "hermes", "--reasoning-format", "think")


def check_agent(output):
    reasoning, message, weather, clock = output
    assert reasoning["type"] == "reasoning" and reasoning["summary"] == []
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Where is Oslo?"}]
    assert message["content"][0]["text"].strip() == "I look it up."
    assert (weather["type"], weather["name"], weather["status"]) == ("function_call", "weather", "completed")
    assert json.loads(weather["arguments"]) == {"city": "Oslo", "days": 2}
    assert clock["name"] == "clock" and json.loads(clock["arguments"]) == {}
    assert weather["call_id"].startswith("call_") and weather["call_id"] != clock["call_id"]
    assert weather["id"].startswith("fc_") and len({i["id"] for i in output}) == 4


def test_agent(kept):
    with kept(*FORMATS) as server, client(server) as api:
        body = create(server, input="KEY-AGENT", tools=TOOLS, parallel_tool_calls=True)
        check_agent(body["output"])
        assert body["tools"] == TOOLS and body["usage"]["output_tokens_details"]["reasoning_tokens"] > 3
        found = stream(server, input="KEY-AGENT", tools=TOOLS)
        check_agent(found[-1]["response"]["output"])
        assert [e["sequence_number"] for e in found] == list(range(len(found)))
        done = [e["item"] for e in found if e["type"] == "response.output_item.done"]
        assert done == found[-1]["response"]["output"]
        for item in done[2:]:
            mine = [e for e in found if e.get("item_id") == item["id"]]
            assert "".join(e["delta"] for e in mine[:-1]) == mine[-1]["arguments"] == item["arguments"]
        again = read_events(server, found[0]["response"]["id"])
        assert [e["type"] for e in again] == [e["type"] for e in found]
        id = found[0]["response"]["id"]
        assert read_events(server, id, 20) == again[21:]
        # what it said and the answers to its calls come before the next question
        outputs = [{"type": "function_call_output", "call_id": i["call_id"], "output": "Sunny."} for i in done[2:]]
        api.responses.create(model="default", previous_response_id=id, tools=TOOLS, input=outputs)
        whole = api.responses.create(model="default", tools=TOOLS, store=False, input=[
            {"role": "user", "content": "KEY-AGENT"}, *done, *outputs])
        chat = server.post("/v1/chat/completions", {"tools": [
            {"type": "function", "function": {"name": t["name"], "description": t.get("description"),
                                              "parameters": t.get("parameters", {"type": "object", "properties": {}})}}
            for t in TOOLS], "messages": [
            {"role": "user", "content": "KEY-AGENT"},
            {"role": "assistant", "content": done[1]["content"][0]["text"], "reasoning_content": "Where is Oslo?",
             "tool_calls": [{"id": i["call_id"], "type": "function",
                             "function": {"name": i["name"], "arguments": i["arguments"]}} for i in done[2:]]},
            *({"role": "tool", "tool_call_id": i["call_id"], "content": "Sunny."} for i in done[2:])]}).json()
        assert chat["usage"]["prompt_tokens"] == whole.usage.input_tokens


def test_allowed_tools(new_scripted):
    with new_scripted(*FORMATS) as server:
        body = create(server, input="KEY-AGENT", tools=TOOLS, parallel_tool_calls=False, tool_choice={
            "type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]})
        assert body["tools"] == TOOLS and body["output"][2]["name"] == "weather"
        refused(server, "tool_choice", input="x", tools=TOOLS, tool_choice={
            "type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "other"}]})
        one = create(server, input="KEY-AGENT", tools=TOOLS, parallel_tool_calls=False)
        assert [i["type"] for i in one["output"]] == ["reasoning", "message", "function_call"]


# ---- what is refused ----

def test_refusals(scripted):
    refused(scripted, "input")
    refused(scripted, "input", input=7)
    refused(scripted, "input", input=[])
    refused(scripted, "input[0].content[0]", input=[{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}])
    refused(scripted, "input[0].role", input=[{"role": "tool", "content": "x"}])
    refused(scripted, "input[1]", input=[{"role": "user", "content": "x"}, {"type": "computer_call", "id": "x"}])
    refused(scripted, "input[0].arguments", input=[{"type": "function_call", "call_id": "c", "name": "n"}])
    refused(scripted, "input", status=404, input=[{"type": "item_reference", "id": "msg_none"}])
    error = refused(scripted, "tools[0]", input="x", tools=[{"type": "web_search"}])
    assert "web_search" in error["message"]
    refused(scripted, "tools[0].name", input="x", tools=[{"type": "function"}])
    refused(scripted, "tools[1].name", input="x", tools=[{"type": "function", "name": n} for n in ("f", "f" * 65)])
    refused(scripted, "tool_choice", input="x", tool_choice="required")
    refused(scripted, "tool_choice", input="x", tool_choice={"type": "function", "name": "none"})
    refused(scripted, "tool_choice", input="x", tool_choice={"type": "file_search"})
    refused(scripted, "text.verbosity", input="x", text={"verbosity": "low"})
    refused(scripted, "reasoning.summary", input="x", reasoning={"summary": "detailed"})
    refused(scripted, "truncation", input="x", truncation="some")
    refused(scripted, "top_logprobs", input="x", top_logprobs=1)
    refused(scripted, "include", input="x", include=["message.nothing"])
    refused(scripted, "metadata", input="x", metadata={"a": 1})
    refused(scripted, "stream_options.include_obfuscation", input="x", stream=True,
            stream_options={"include_obfuscation": True})
    refused(scripted, "service_tier", input="x", service_tier="flex")
    for name in ("background", "store", "detach"):
        refused(scripted, name, input="x", **{name: True})
    for name, value in (("prompt", {"id": "p"}), ("conversation", "c"), ("n", 2), ("return_token_ids", True),
                        ("prompt_cache_retention", "24h"), ("moderation", {"model": "m"}),
                        ("context_management", [{"type": "compaction"}]),
                        ("access_programs", {"cyber": "standard"}), ("background_options", {"a": 1}),
                        ("image", {"context_compression": "auto"}), ("stream_interval_tokens", 4), ("prompt_cache_options", {"ttl": "12h"})):
        refused(scripted, name, input="x", **{name: value})
    refused(scripted, "previous_response_id", previous_response_id="resp_none")
    reply = scripted.post("/v1/responses", {"input": "x", "whatever": 1})
    assert reply.headers["x-tandem-ignored-fields"] == "whatever"


def test_defaults_are_accepted(scripted):
    create(scripted, input="x", tools=[], tool_choice="auto", parallel_tool_calls=True, max_tool_calls=3,
           text={"format": {"type": "text"}, "verbosity": "medium"}, reasoning={"summary": "auto", "effort": None},
           truncation="disabled", store=False, background=False, service_tier="auto", n=1, prompt=None,
           include=["reasoning.encrypted_content"], prompt_cache_key="k", safety_identifier="s",
           stream_options=None, prompt_cache_options={"mode": "implicit"})


# ---- too long ----

LONG = "word " * 900


def test_truncation(new_scripted):
    with new_scripted("--max-context", 4096) as server:
        items = [{"role": "system", "content": "Stay."}]
        for i in range(8):
            items += [{"role": "user", "content": f"{i} {LONG}"}, {"role": "assistant", "content": "Yes."}]
        items += [{"role": "user", "content": "KEY-PLAIN"}]
        error = refused(server, "input", input=items)
        assert error["code"] == "context_length_exceeded"
        body = create(server, input=items, truncation="auto", max_output_tokens=200)
        assert text_of(body) == PLAIN and body["truncation"] == "auto"
        assert 2000 < body["usage"]["input_tokens"] <= 4096 - 200
        last = create(server, input=items[:1] + items[-1:], max_output_tokens=200)
        assert body["usage"]["input_tokens"] > last["usage"]["input_tokens"]
        refused(server, "input", input=[{"role": "user", "content": LONG * 8}], truncation="auto")


# ---- stored ones ----

def test_stored(kept):
    with kept() as server, client(server) as api:
        first = api.responses.create(model="default", input="KEY-PLAIN")
        assert first.output_text == PLAIN
        body = read(server, first.id).json()
        Response.model_validate(body)
        assert body["status"] == "completed" and body["store"] is True and text_of(body) == PLAIN
        assert api.responses.retrieve(first.id).output_text == PLAIN
        second = api.responses.create(model="default", input="KEY-EMPTY", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        items = server.http.get(f"/v1/responses/{second.id}/input_items", params={"order": "asc"}).json()
        ResponseItemList.model_validate(items)
        assert [(i["type"], i["role"]) for i in items["data"]] == [
            ("message", "user"), ("message", "assistant"), ("message", "user")]
        assert items["data"][1] == body["output"][0] | {"content": [
            {"type": "output_text", "text": PLAIN, "annotations": []}]}
        listed = [i.id for i in api.responses.input_items.list(second.id, limit=1)]
        assert listed == [i["id"] for i in reversed(items["data"])]
        # the conversation is what it would have been as messages
        whole = create(server, store=False, input=[
            {"role": "user", "content": "KEY-PLAIN"}, {"role": "assistant", "content": PLAIN},
            {"role": "user", "content": "KEY-EMPTY"}])
        assert whole["usage"]["input_tokens"] == second.usage.input_tokens
        api.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            api.responses.retrieve(first.id)
        error = refused(server, "previous_response_id", input="x", previous_response_id=first.id)
        assert error["code"] == "previous_response_not_found"
        third = api.responses.create(model="default", input="KEY-EMPTY", previous_response_id=second.id)
        assert third.usage.input_tokens > second.usage.input_tokens
        reference = create(server, store=False, input=[
            {"role": "user", "content": "KEY-PLAIN"}, {"type": "item_reference", "id": items["data"][2]["id"]}])
        plain = create(server, store=False, input=[{"role": "user", "content": "KEY-PLAIN"},
                                                   {"role": "user", "content": "KEY-EMPTY"}])
        assert reference["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
        assert read(server, "resp_none").status_code == 404


def test_not_stored(kept):
    with kept() as server:
        body = create(server, input="KEY-EMPTY", store=False)
        assert body["store"] is False and read(server, body["id"]).status_code == 404


def test_read_again(kept):
    """Events read again are those that were sent, from any number on."""
    with kept() as server:
        found = stream(server, input="KEY-UNICODE")
        id = found[0]["response"]["id"]
        ended(server, id)
        again = read_events(server, id)
        assert [bare(e) if "response" not in e else e["type"] for e in again] == [
            bare(e) if "response" not in e else e["type"] for e in found]
        for after in (0, 1, 2, 7, len(found) - 2, len(found) - 1):
            assert read_events(server, id, after) == again[after + 1:]
        assert read(server, id, starting_after=1).status_code == 400
        assert server.http.get(f"/v1/requests/{id}", params={"stream": "true", "after": 3}).status_code == 400


def test_followed_at_once(kept):
    """What a client was told of is there for its next request."""
    with kept() as server:
        def talk(i):
            id = None
            for turn in range(6):
                last = {"previous_response_id": id} if id else {}
                if (i + turn) % 2:
                    id = create(server, input=f"{i} KEY-EMPTY", **last)["id"]
                else:
                    id = stream(server, input=f"{i} KEY-EMPTY", **last)[-1]["response"]["id"]
                assert read(server, id).json()["status"] == "completed"
        together([lambda i=i: talk(i) for i in range(8)])


def test_background(kept):
    with kept() as server, client(server) as api:
        response = api.responses.create(model="default", input="KEY-PACED", background=True)
        assert response.status == "queued" and response.background and response.output == []
        body = ended(server, response.id)
        Response.model_validate(body)
        assert body["status"] == "completed" and text_of(body) == PLAIN
        found = read_events(server, response.id)
        assert [e["type"] for e in found[:3]] == ["response.created", "response.queued", "response.in_progress"]
        streamed = stream(server, input="KEY-PACED", background=True)
        assert streamed[0]["response"]["status"] == "queued" and text_of(streamed[-1]["response"]) == PLAIN


def test_cancel(kept):
    with kept() as server, client(server) as api:
        response = api.responses.create(model="default", input="KEY-SLOW", background=True)
        server.wait_for(lambda: read(server, response.id).json()["status"] == "in_progress", "it runs")
        cancelled = api.responses.cancel(response.id)
        assert cancelled.status == "cancelled"
        assert api.responses.cancel(response.id).status == "cancelled"
        assert read(server, response.id).json()["status"] == "cancelled"
        found = read_events(server, response.id)
        assert found[-1]["response"]["status"] == "cancelled"
        running = api.responses.create(model="default", input="KEY-SLOW", background=True)
        api.responses.delete(running.id)
        assert read(server, running.id).status_code == 404


def test_client_that_leaves(kept):
    """A response that nobody asked to go on ends with its client; one with background goes on."""
    with kept() as server:
        ids = []
        for background in (False, True):
            body = {"input": "KEY-SLOW", "stream": True, "background": background, "max_output_tokens": 300}
            with server.http.stream("POST", "/v1/responses", json=body) as reply:
                line = next(line for line in reply.iter_lines() if line.startswith("data: "))
                ids.append(json.loads(line.removeprefix("data: "))["response"]["id"])
        assert ended(server, ids[0])["status"] == "cancelled"
        assert ended(server, ids[1])["status"] == "incomplete"


def test_failed(kept):
    with kept() as server:
        body = create(server, input="KEY-FAIL", background=True)
        failed = ended(server, body["id"])
        Response.model_validate(failed)
        assert failed["status"] == "failed" and failed["error"]["message"]
        assert read_events(server, body["id"])[-1]["type"] == "response.failed"
        refused(server, "previous_response_id", input="x", previous_response_id=body["id"])


@pytest.mark.cpu_only("a resumed answer is the undisturbed one")
def test_restart(kept):
    with kept() as server, client(server) as api:
        first = api.responses.create(model="default", input="Say hello.")
        running = api.responses.create(model="default", input="KEY-STEADY", background=True, max_output_tokens=200,
                                       previous_response_id=first.id)
        server.wait_for(lambda: read(server, running.id).json()["status"] == "in_progress", "it runs")
        seen = []
        with server.http.stream("GET", f"/v1/responses/{running.id}", params={"stream": "true"}) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                if len(seen) > 20:
                    break
        server.expect_exit(-signal.SIGKILL)
        server.process.kill()
    with kept() as server, client(server) as api:
        assert api.responses.retrieve(first.id).output_text == first.output_text == "Hello there."
        server.wait_for(lambda: read(server, running.id, stream="true", starting_after=9999).status_code == 200,
                        "it goes on", 30)
        rest = read_events(server, running.id, seen[-1]["sequence_number"])
        assert rest[0]["sequence_number"] == seen[-1]["sequence_number"] + 1
        body = ended(server, running.id)
        assert body["status"] == "incomplete" and body["usage"]["output_tokens"] == 200
        text = "".join(e["delta"] for e in seen + rest if e["type"] == "response.output_text.delta")
        assert text == text_of(body)
        second = api.responses.create(model="default", input="x", previous_response_id=running.id, max_output_tokens=1)
        assert second.usage.input_tokens > first.usage.input_tokens + 100


def test_other_key(kept, tmp_path):
    """A response is seen, followed and ended only with its own key."""
    keys = tmp_path / "keys"
    keys.write_text(json.dumps([{"name": n, "key": f"key-{n}-0123456789abcdef"} for n in ("one", "two")]))
    keys.chmod(0o600)
    with kept("--api-keys", keys, api_key="key-one-0123456789abcdef") as server:
        id = create(server, input="KEY-PLAIN")["id"]
        own = server.http.headers["Authorization"]
        server.http.headers["Authorization"] = "Bearer key-two-0123456789abcdef"
        assert read(server, id).status_code == 404
        assert server.http.get(f"/v1/responses/{id}/input_items").status_code == 404
        assert server.http.delete(f"/v1/responses/{id}").status_code == 404
        assert server.http.post(f"/v1/responses/{id}/cancel").status_code == 404
        assert read(server, id, stream="true").status_code == 404
        refused(server, "previous_response_id", input="x", previous_response_id=id)
        server.http.headers["Authorization"] = own
        assert read(server, id).status_code == 200


def test_many_at_once(kept):
    with kept() as server:
        first = create(server, input="KEY-PLAIN")
        bodies = together([lambda i=i: create(server, input=f"{i} KEY-PLAIN", previous_response_id=first["id"])
                           for i in range(12)])
        assert all(text_of(b) == PLAIN for b in bodies) and len({b["id"] for b in bodies}) == 12
