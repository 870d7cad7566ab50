"""Requests that outlive their client, the gateway and the machine: background, detach, /v1/requests, --journal."""
import contextlib
import json
import re
import signal
import sqlite3
import stat

import openai
import psutil
import pytest

from harness import PATIENCE, Server, failing_server, metric, together
from script_rules import PLAIN

pytestmark = pytest.mark.cpu_only("a resumed answer is the undisturbed one")

PROMPT = {"prompt": "Once upon a time there was a journal", "temperature": 1.3, "seed": 11, "ignore_eos": True}


@pytest.fixture
def kept(new_scripted, tmp_path):
    """Scripted answers, and a journal."""
    def make(*options, **arguments):
        return new_scripted("--journal", tmp_path / "journal", *options, **arguments)
    return make


@pytest.fixture
def kept_tiny(tiny_path, tmp_path):
    """A model that computes, and a journal."""
    def make(*options, **arguments):
        return Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--journal", tmp_path / "journal", *options,
                      **arguments)
    return make


def background(server, path, body):
    reply = server.post(path, {**body, "background": True})
    assert reply.status_code == 202, reply.text
    accepted = reply.json()
    assert accepted["object"] == "request" and accepted["status"] == "queued"
    assert reply.headers["location"] == f"/v1/requests/{accepted['id']}"
    return accepted["id"]


def state(server, id):
    reply = server.http.get(f"/v1/requests/{id}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def ended(server, id, timeout=60):
    def look():
        request = state(server, id)
        return request if request["status"] not in ("queued", "running") else None
    return server.wait_for(look, f"{id} ends", timeout)


def parsed(text):
    """(id or None, object or "[DONE]") of each event of a stream's text."""
    found = []
    for event in text.split("\n\n"):
        if not event or event.startswith(":"):
            continue
        lines = event.split("\n")
        assert lines[0].startswith("data: ") and len(lines) <= 2, event
        place = re.fullmatch(r"id: ([0-9,.]+)", lines[1]).group(1) if len(lines) == 2 else None
        data = lines[0][len("data: "):]
        found.append((place, data if data == "[DONE]" else json.loads(data)))
    return found


def events(reply):
    """Of a whole stream, without its end."""
    found = parsed(reply.text)
    assert found[-1][1] == "[DONE]"
    return found[:-1]


def attach(server, id, after=None, **options):
    query = {"stream": "true", **({} if after is None else {"after": after})}
    reply = server.http.get(f"/v1/requests/{id}", params=query, **options)
    assert reply.status_code == 200, reply.text
    return events(reply)


def had(found):
    """What counts of what a reader got: all up to the last event with a place; and that place."""
    last = max((i for i, (place, _) in enumerate(found) if place), default=None)
    return ([], 0) if last is None else (found[:last + 1], found[last][0])


def pieces(found):
    """Per choice: text, token ids, logprobs; and finish reasons, usage."""
    whole = {"usage": None, "finish": {}, "text": {}, "ids": {}, "logprobs": {}}
    for _, chunk in found:
        whole["usage"] = chunk.get("usage") or whole["usage"]
        for choice in chunk["choices"]:
            i = choice["index"]
            text = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            whole["text"][i] = whole["text"].get(i, "") + text
            whole["ids"].setdefault(i, []).extend(choice.get("token_ids", []))
            logprobs = choice.get("logprobs") or {}
            tokens = logprobs.get("content") or logprobs.get("tokens") or []
            whole["logprobs"].setdefault(i, []).extend(json.dumps(t) for t in tokens)
            if choice["finish_reason"]:
                whole["finish"][i] = (choice["finish_reason"], choice["stop_reason"])
    return whole


def joined(first, second):
    """What a reader has who got these pieces and then those."""
    both = {"usage": second["usage"], "finish": {**first["finish"], **second["finish"]}}
    for key in ("text", "ids", "logprobs"):
        empty = "" if key == "text" else []
        both[key] = {i: first[key].get(i, empty) + second[key].get(i, empty) for i in first[key].keys() | second[key].keys()}
    return both


def same_answer(a, b):
    """Bodies of two runs of one request: all but what names the run."""
    def bare(body):
        usage = {**body["usage"], "prompt_tokens_details": None}
        return {**{k: v for k, v in body.items() if k not in ("id", "created", "timings")}, "usage": usage}
    assert bare(a) == bare(b)


def kill_gateway(server):
    engine = server.engine()["pid"]
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server.expect_exit(-signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(engine).wait(10 * PATIENCE)


# ---- without a journal ----

def test_without_a_journal(scripted):
    for field in ("background", "detach"):
        for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
                           ("/v1/completions", {"prompt": "x"})):
            reply = scripted.post(path, {**body, field: True})
            assert reply.status_code == 400 and reply.json()["error"]["param"] == field
            assert "--journal" in reply.json()["error"]["message"]
            assert scripted.post(path, {**body, field: False, "max_tokens": 1}).status_code == 200
    assert scripted.http.get("/v1/requests").status_code == 404


@pytest.mark.parametrize("options, words", [
    (["--journal-sync", "often"], ["--journal-sync", "normal or full"]),
    (["--journal-max-mb", "-1"], ["--journal-max-mb"]),
    (["--journal-max-age-hours", "x"], ["--journal-max-age-hours"]),
])
def test_bad_options(tiny_path, tmp_path, options, words):
    with failing_server(tiny_path, "--journal", tmp_path / "j", *options) as (status, said):
        assert status == 2 and all(w in said for w in words), said


def test_a_damaged_journal_is_refused(tiny_path, tmp_path):
    folder = tmp_path / "j"
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(b"no database at all " * 1000)
    with failing_server(tiny_path, "--journal", folder) as (status, said):
        assert status != 0 and str(folder / "journal.db") in said and "Move it away" in said, said


# ---- background ----

def test_background(kept, tmp_path):
    chat = {"messages": [{"role": "user", "content": "KEY-PLAIN"}], "logprobs": True, "top_logprobs": 2}
    with kept("--journal-sync", "full") as server:
        plain = server.ok("/v1/chat/completions", chat)
        request = ended(server, background(server, "/v1/chat/completions", chat))
        assert request["status"] == "completed" and request["error"] is None and request["background"]
        assert request["route"] == "/v1/chat/completions" and request["result"]["id"] == request["id"]
        assert request["generated_tokens"] == request["result"]["usage"]["completion_tokens"]
        same_answer(request["result"], plain)
        completion = {"prompt": ["KEY-PLAIN", "KEY-CHOICES"], "n": 2, "logprobs": 1, "echo": True, "max_tokens": 30,
                      "stop": "STOP"}
        plain = server.ok("/v1/completions", completion)
        request = ended(server, background(server, "/v1/completions", completion))
        same_answer(request["result"], plain)
        assert metric(server.metrics(), "tandem_journal_failing") == 0
        server.wait_for(lambda: metric(server.metrics(), "tandem_journal_requests", state="completed") == 2, "two", 20)
    for path in (tmp_path / "journal").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


def test_failures_are_kept(kept):
    with kept() as server:
        reply = server.post("/v1/completions", {"prompt": "x", "temperature": -3, "background": True})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "temperature"
        request = ended(server, background(server, "/v1/completions", {"prompt": "KEY-FAIL", "max_tokens": 50}))
        assert request["status"] == "failed" and request["result"] is None
        assert request["error"]["message"] and request["error"]["type"] == "server_error"
        reply = server.http.get(f"/v1/requests/{request['id']}", params={"stream": "true"})
        found = events(reply)
        assert "".join(c["choices"][0]["text"] for _, c in found[:-1]).startswith("Some words")
        assert found[-1][1]["error"]["message"] == request["error"]["message"]
        assert state(server, background(server, "/v1/completions", {"prompt": "KEY-SLOW", "timeout": 0.2,
                                                                    "max_tokens": 900}))["status"] != "failed"
        server.wait_for(lambda: server.http.get("/v1/requests").json()["data"][0]["status"] == "failed", "the deadline")
        assert server.http.get("/v1/requests").json()["data"][0]["error"]["code"] == "deadline_exceeded"


def test_lists(kept):
    with kept() as server:
        ids = [background(server, "/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 5}) for _ in range(5)]
        page = server.http.get("/v1/requests", params={"limit": 2}).json()
        assert [r["id"] for r in page["data"]] == ids[:2:-1] and page["has_more"] and page["last_id"] == ids[3]
        rest = server.http.get("/v1/requests", params={"limit": 50, "after": page["last_id"]}).json()
        assert [r["id"] for r in rest["data"]] == ids[2::-1] and not rest["has_more"]
        for query in ({"limit": 0}, {"limit": "x"}, {"order": "asc"}):
            assert server.http.get("/v1/requests", params=query).status_code == 400
        assert server.http.get("/v1/requests/nothing").status_code == 404


# ---- its events ----

WHOLE = {"prompt": "KEY-UNICODE", "max_tokens": 40, "logprobs": 1, "return_token_ids": True, "stream": True,
         "stream_options": {"include_usage": True}}


def test_reattach_at_every_token(kept):
    """However many tokens a reader had: what it had and what it gets is the whole, while it runs and after."""
    with kept() as server:
        whole = pieces(events(server.post("/v1/completions", {**WHOLE, "prompt": "KEY-SLOW-UNICODE"})))
        n = whole["usage"]["completion_tokens"]
        assert n == 40
        running = background(server, "/v1/completions", {**WHOLE, "prompt": "KEY-SLOW-UNICODE"})
        live = together([lambda k=k: attach(server, running, k) for k in range(0, n + 2, 7)])
        ended(server, running)
        first = attach(server, running)
        assert pieces(first) == whole
        for k in range(n + 2):
            seen, place = had([(p, c) for p, c in first if p is None or int(p) <= k])
            assert joined(pieces(seen), pieces(attach(server, running, place))) == whole, k
            rest = pieces(attach(server, running, k))
            assert whole["ids"][0][k:] == rest["ids"].get(0, []) and whole["text"][0].endswith(rest["text"].get(0, ""))
        for k, found in zip(range(0, n + 2, 7), live):
            rest = pieces(found)
            assert rest["ids"].get(0, []) == whole["ids"][0][k:] and rest["finish"] == whole["finish"], k
        # what a browser sends when it comes back
        again = attach(server, running, headers={"Last-Event-ID": "30"})
        assert pieces(again)["ids"][0] == whole["ids"][0][30:]


def test_reattach_with_choices_and_stop_strings(kept):
    body = {"prompt": "KEY-PACED", "n": 3, "max_tokens": 40, "stop": ["STOP here", "lazy cat"], "stream": True,
            "return_token_ids": True, "echo": True}
    with kept() as server:
        whole = pieces(events(server.post("/v1/completions", body)))
        running = background(server, "/v1/completions", body)
        found = attach(server, running)
        assert pieces(found) == whole
        for cut in range(len(found) + 1):
            seen, place = had(found[:cut])
            assert joined(pieces(seen), pieces(attach(server, running, place))) == whole, cut
        for after in ("1,2", "x", "-1", "1,2,3,4"):
            reply = server.http.get(f"/v1/requests/{running}", params={"stream": "true", "after": after})
            assert reply.status_code == 400 and reply.json()["error"]["param"] == "after", after


def test_a_place_that_an_ended_answer_does_not_have(kept):
    """Refused like any other request, and its line in the log has what was asked for."""
    with kept() as server:
        model = server.http.get("/v1/models").json()["data"][0]["id"]
        done = background(server, "/v1/completions", {"model": model, "prompt": "KEY-PLAIN", "max_tokens": 5})
        ended(server, done)
        reply = server.http.get(f"/v1/requests/{done}", params={"stream": "true", "after": "1,2"},
                                headers={"X-Request-Id": "nowhere"})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "after"
        line = server.wait_for(lambda: [x for x in server.log().split("\n") if "nowhere" in x], "the request's line")[0]
        assert f"model={model} " in line, line


def test_two_readers_and_one_that_leaves(kept):
    body = {"messages": [{"role": "user", "content": "KEY-SLOW"}], "max_tokens": 120}
    with kept() as server:
        running = background(server, "/v1/chat/completions", body)
        with server.new_http() as http, http.stream("GET", f"/v1/requests/{running}?stream=true") as reply:
            for _ in reply.iter_bytes():
                break  # and leaves
        readers = together([lambda: attach(server, running)] * 2)
        result = ended(server, running)["result"]
        for found in readers:
            assert pieces(found)["text"][0] == result["choices"][0]["message"]["content"]
            assert found[0][1]["choices"][0]["delta"]["role"] == "assistant"


# ---- detach ----

def test_detached_clients_are_answered_as_usual(kept):
    body = {"messages": [{"role": "user", "content": "KEY-PLAIN"}]}
    with kept() as server:
        plain = server.ok("/v1/chat/completions", body)
        same_answer(server.ok("/v1/chat/completions", {**body, "detach": True}), plain)
        client = server.openai()
        with client.chat.completions.create(model="default", stream=True, extra_body={"detach": True}, **body) as stream:
            assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == PLAIN
        reply = server.post("/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 3, "detach": True, "max_tokenz": 1})
        assert reply.headers["x-tandem-ignored-fields"] == "max_tokenz"
        assert reply.headers["content-location"] == f"/v1/requests/{reply.json()['id']}"
        request = ended(server, reply.json()["id"])
        assert request["result"] == reply.json() and not request["background"]
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="default", messages=[], extra_body={"detach": True}, top_p=7)


def test_detach_and_come_back(kept):
    body = {"prompt": "KEY-SLOW", "max_tokens": 150, "stream": True, "detach": True}
    with kept() as server:
        with server.new_http() as http, http.stream("POST", "/v1/completions", json=body) as reply:
            id = reply.headers["content-location"].rsplit("/", 1)[1]
            got = ""
            for text in reply.iter_text():
                got += text
                if got.count("\n\n") > 5:
                    break
        got = [e for e in got.split("\n\n")[:-1] if "\nid: " in e]
        place = got[-1].rsplit("id: ", 1)[1]
        text = "".join(json.loads(e.split("\n")[0][6:])["choices"][0]["text"] for e in got)
        text += pieces(attach(server, id, place))["text"][0]
        assert text == ended(server, id)["result"]["choices"][0]["text"] and text.startswith("tick tock tick")
        server.wait_idle()


# ---- cancel and remove ----

def test_cancel_and_remove(kept):
    with kept() as server:
        for cancel in (lambda id: server.http.delete(f"/v1/requests/{id}"),
                       lambda id: server.http.post(f"/v1/requests/{id}/cancel")):
            id = background(server, "/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 3000})
            server.wait_for(lambda: state(server, id)["generated_tokens"] > 3, "tokens are saved")
            reply = cancel(id)
            assert reply.status_code == 200 and reply.json()["cancelled"] is True, reply.text
            request = state(server, id)
            assert request["status"] == "cancelled"
            assert request["result"]["choices"][0]["text"].startswith("tick tock")
            reply = server.http.delete(f"/v1/requests/{id}")
            assert reply.status_code == 200 and reply.json()["deleted"] is True
            assert server.http.get(f"/v1/requests/{id}").status_code == 404
            assert server.http.delete(f"/v1/requests/{id}").status_code == 404
        server.wait_idle()


# ---- keys ----

def test_one_key_does_not_see_anothers(kept, tmp_path):
    keys = {name: f"sk-{name}-0123456789abcdef" for name in ("alice", "bob")}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([{"name": name, "key": key, "requests_per_minute": 1000} for name, key in keys.items()]))
    path.chmod(0o600)
    bearer = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    with kept("--api-keys", path, "--cache-salt-per-key", api_key=keys["alice"]) as server:
        slow = background(server, "/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 3000})
        done = background(server, "/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 5})
        ended(server, done)
        server.wait_for(lambda: state(server, slow)["generated_tokens"] > 3, "tokens")
        assert len(server.http.get("/v1/requests").json()["data"]) == 2
        detached = server.post("/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 5, "detach": True})
        assert detached.status_code == 200 and detached.headers["x-ratelimit-limit-requests"] == "1000"
        assert server.http.get("/v1/requests", headers=bearer["bob"]).json()["data"] == []
        for id in (slow, done):
            for method, rest in (("GET", ""), ("GET", "?stream=true"), ("DELETE", ""), ("POST", "/cancel")):
                reply = server.http.request(method, f"/v1/requests/{id}{rest}", headers=bearer["bob"])
                assert reply.status_code == 404, (method, rest, reply.text)
        assert state(server, slow)["status"] == "running"
        kill_gateway(server)
    with kept("--api-keys", path, "--cache-salt-per-key", api_key=keys["alice"]) as server:
        server.wait_for(lambda: state(server, slow)["status"] == "running", "it goes on")
        assert server.http.get(f"/v1/requests/{slow}", headers=bearer["bob"]).status_code == 404
        assert server.http.delete(f"/v1/requests/{slow}").json()["cancelled"] is True


# ---- limits ----

def test_full_journal(kept):
    body = {"prompt": "KEY-STEADY " + "x" * 100000, "max_tokens": 1000, "truncate_prompt_tokens": 60}
    with kept("--journal-max-mb", 1) as server:
        ids, replies = [], []
        for _ in range(12):
            replies.append(server.post("/v1/completions", {**body, "prompt": "x" * 100000 + "KEY-STEADY",
                                                           "background": True}))
            if replies[-1].status_code == 202:
                ids.append(replies[-1].json()["id"])
        assert 5 <= len(ids) < 12
        refused = replies[-1]
        assert refused.status_code == 429 and "--journal-max-mb" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"]
        assert metric(server.metrics(), "tandem_journal_refused_total") == 12 - len(ids)
        for id in ids:
            assert server.http.delete(f"/v1/requests/{id}").status_code == 200
        assert server.post("/v1/completions", {**body, "background": True}).status_code == 202  # they made room
        assert server.http.get(f"/v1/requests/{ids[0]}").status_code == 404


# ---- the gateway dies ----

def longest(server, ids):
    return min(state(server, id)["generated_tokens"] for id in ids)


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_goes_on_after_the_gateway(kept_tiny, how):
    """Killed in the middle of answers, or stopped: they end as if nothing had happened."""
    bodies = [("/v1/completions", {**PROMPT, "max_tokens": 800, "logprobs": 2}),
              ("/v1/completions", {**PROMPT, "max_tokens": 500, "n": 2, "frequency_penalty": 0.7}),
              ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Tell me more."}], "max_tokens": 700,
                                        "temperature": 0.9, "seed": 4, "logprobs": True, "top_logprobs": 1, "ignore_eos": True})]
    with kept_tiny() as server:
        ids = [background(server, path, body) for path, body in bodies]
        server.wait_for(lambda: longest(server, ids) > 20, "all have tokens", 30)
        with server.new_http() as http, http.stream("GET", f"/v1/requests/{ids[0]}?stream=true") as reply:
            got = ""
            for text in reply.iter_text():
                got += text
                if "id: " in got:
                    break
        before = {id: state(server, id) for id in ids}
        assert all(r["status"] == "running" for r in before.values())
        if how == "kill":
            kill_gateway(server)
    with kept_tiny() as server:
        after = {id: ended(server, id, 60) for id in ids}
        for (path, body), id in zip(bodies, ids):
            assert after[id]["status"] == "completed", after[id]
            assert after[id]["created"] == before[id]["created"] and after[id]["resumed_from_fingerprint"] is None
            same_answer(after[id]["result"], server.ok(path, body))
        # what a reader had before is a beginning of what it gets now
        got = [e for e in got.split("\n\n")[:-1] if "\nid: " in e]
        text = "".join(json.loads(e.split("\n")[0][6:])["choices"][0]["text"] for e in got)
        text += pieces(attach(server, ids[0], got[-1].rsplit("id: ", 1)[1]))["text"][0]
        assert text == after[ids[0]]["result"]["choices"][0]["text"]


def test_killed_again_and_again(kept_tiny):
    """Every life brings it a little further; a drawn seed is kept too."""
    body = {"prompt": "Again and", "temperature": 1.5, "max_tokens": 1600, "ignore_eos": True, "return_token_ids": True}
    n, id = 0, None
    for _ in range(4):
        with kept_tiny() as server:
            id = id or background(server, "/v1/completions", body)
            server.wait_for(lambda: state(server, id)["generated_tokens"] > n, "it goes on", 30)
            n = state(server, id)["generated_tokens"]
            kill_gateway(server)
    with kept_tiny() as server:
        result = ended(server, id)["result"]
        assert result["usage"]["completion_tokens"] == 1600 == len(result["choices"][0]["token_ids"])
        events_text = pieces(attach(server, id))
        assert events_text["ids"][0] == result["choices"][0]["token_ids"]


def test_the_engine_dies_too(kept_tiny):
    with kept_tiny() as server:
        id = background(server, "/v1/completions", {**PROMPT, "max_tokens": 1500})
        server.wait_for(lambda: state(server, id)["generated_tokens"] > 20, "tokens", 30)
        server.kill_engine()
        same_answer(ended(server, id)["result"], server.ok("/v1/completions", {**PROMPT, "max_tokens": 1500}))


def test_another_engine_is_marked(kept_tiny):
    """The rest of the answer is of an engine whose bits may differ: the answer says so."""
    body = {**PROMPT, "max_tokens": 1500, "stream": True}
    with kept_tiny() as server:
        id = background(server, "/v1/completions", body)
        server.wait_for(lambda: state(server, id)["generated_tokens"] > 20, "tokens", 30)
        first = state(server, id)["system_fingerprint"]
        kill_gateway(server)
    with kept_tiny("--kv-type", "f32") as server:
        request = ended(server, id)
        assert request["status"] == "completed" and request["resumed_from_fingerprint"] == first
        assert request["result"]["resumed_from_fingerprint"] == first
        assert request["result"]["system_fingerprint"] == request["system_fingerprint"] != first
        _, chunk = attach(server, id, 40)[0]
        assert chunk["resumed_from_fingerprint"] == first
        assert "resumed_from_fingerprint" not in server.ok("/v1/completions", {**body, "stream": False, "max_tokens": 1})


def test_its_model_is_not_served(kept_tiny):
    """It waits, says why, and goes on when its model is there again."""
    with kept_tiny("--served-model-name", "one") as server:
        id = background(server, "/v1/completions", {**PROMPT, "max_tokens": 1500})
        server.wait_for(lambda: state(server, id)["generated_tokens"] > 20, "tokens", 30)
        kill_gateway(server)
    with kept_tiny("--served-model-name", "two") as server:
        server.wait_for(lambda: state(server, id)["reason"], "a reason")
        request = state(server, id)
        assert request["status"] == "queued" and "'one' is not served" in request["reason"]
        assert request["generated_tokens"] > 20
        reply = server.http.get(f"/v1/requests/{id}", params={"stream": "true"})
        assert reply.status_code == 503 and reply.headers["retry-after"]
    with kept_tiny("--served-model-name", "one") as server:
        request = ended(server, id)
        assert request["status"] == "completed" and request["reason"] is None
        same_answer({**request["result"], "model": ""}, {**server.ok("/v1/completions", {**PROMPT, "max_tokens": 1500}), "model": ""})


def test_what_ends_the_program_again_and_again(kept_tiny, tmp_path):
    """Tried one at a time after a while, and not for ever."""
    with kept_tiny() as server:
        ids = [background(server, "/v1/completions", {**PROMPT, "max_tokens": 1500}) for _ in range(4)]
        server.wait_for(lambda: longest(server, ids) > 0, "tokens", 30)
        kill_gateway(server)
    for id, starts in zip(ids, (0, 2, 4, 5)):
        with contextlib.closing(sqlite3.connect(tmp_path / "journal" / "journal.db")) as database, database:
            database.execute("UPDATE requests SET starts = ? WHERE id = ?", (starts, id))
    with kept_tiny() as server:
        requests = [ended(server, id) for id in ids]
        assert [r["status"] for r in requests] == ["completed"] * 3 + ["failed"]
        assert "ended 5 times" in requests[3]["error"]["message"] and requests[3]["error"]["code"] == "internal_error"
        for request in requests[1:3]:
            same_answer(request["result"], requests[0]["result"])


def test_two_gateways_do_not_share_a_journal(kept_tiny, tiny_path, tmp_path):
    with kept_tiny():
        with failing_server(tiny_path, "--journal", tmp_path / "journal") as (status, said):
            assert status != 0 and "in use" in said
