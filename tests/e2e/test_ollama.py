"""Ollama's API with its own client: chat, generate, what is served, errors."""
import json

import ollama
import pytest

from script_rules import PLAIN

pytestmark = pytest.mark.cpu_only("the API is the same whatever computes")

FORMATS = ("--tool-format", "hermes", "--reasoning-format", "think")
TOOLS = [{"type": "function", "function": {"name": name, "description": "x", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}} for name in ("weather", "clock")]


def client(server):
    return ollama.Client(host=f"http://127.0.0.1:{server.port}", headers={"Host": "x"})


def ask(content):
    return [{"role": "user", "content": content}]


def refused(server, path, **body):
    reply = server.post(path, {"model": "default", **body})
    assert reply.status_code == 400 and list(reply.json()) == ["error"], reply.text
    return reply.json()["error"]


def check_end(last):
    assert last["done"] and last["done_reason"] in ("stop", "length")
    assert last["total_duration"] >= last["prompt_eval_duration"] + last["eval_duration"] > 0
    assert last["total_duration"] < 60e9 and last["load_duration"] == 0
    assert last["prompt_eval_count"] > 0 and last["eval_count"] > 0


def test_chat(scripted):
    api = client(scripted)
    whole = api.chat(model="tiny", messages=ask("KEY-PLAIN"))
    assert whole.message.content == PLAIN and whole.message.role == "assistant" and whole.model == "tiny"
    check_end(whole)
    pieces = list(api.chat(model="tiny:latest", messages=ask("KEY-PACED"), stream=True))
    assert "".join(p.message.content for p in pieces) == PLAIN and len(pieces) > 10
    assert not any(p.done for p in pieces[:-1]) and pieces[0].model == "tiny:latest"
    check_end(pieces[-1])


def test_streams_by_default(scripted):
    reply = scripted.post("/api/chat", {"model": "tiny", "messages": ask("KEY-PLAIN")})
    assert reply.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert lines[-1]["done"] and "".join(line["message"]["content"] for line in lines) == PLAIN


def test_generate(scripted):
    api = client(scripted)
    assert api.generate(model="tiny", prompt="KEY-PLAIN", system="Be brief.").response == PLAIN
    pieces = list(api.generate(model="tiny", prompt="KEY-PLAIN", raw=True, stream=True, options={"num_predict": 5}))
    assert pieces[-1].done_reason == "length" and pieces[-1].eval_count == 5
    chat = scripted.post("/v1/chat/completions", {"messages": [{"role": "system", "content": "Be brief."},
                                                               *ask("KEY-PLAIN")]}).json()
    same = api.generate(model="tiny", prompt="KEY-PLAIN", system="Be brief.")
    assert same.prompt_eval_count == chat["usage"]["prompt_tokens"]


def test_agent(new_scripted):
    with new_scripted(*FORMATS) as server:
        api = client(server)
        whole = api.chat(model="tiny", messages=ask("KEY-AGENT"), tools=TOOLS, think=True)
        assert whole.message.thinking == "Where is Oslo?" and whole.message.content.strip() == "I look it up."
        calls = [(c.function.name, dict(c.function.arguments)) for c in whole.message.tool_calls]
        assert calls == [("weather", {"city": "Oslo", "days": 2}), ("clock", {})]
        pieces = list(api.chat(model="tiny", messages=ask("KEY-AGENT"), tools=TOOLS, stream=True))
        assert "".join(p.message.thinking or "" for p in pieces) == "Where is Oslo?"
        assert [c.function.name for p in pieces for c in p.message.tool_calls or []] == ["weather", "clock"]
        history = [*ask("KEY-PLAIN"), whole.message, {"role": "tool", "tool_name": "weather", "content": "Sunny."}]
        assert api.chat(model="tiny", messages=history, tools=TOOLS).message.content == PLAIN
        shown = api.show("tiny")
        assert shown.capabilities == ["completion", "tools", "thinking"]


def test_options(tiny):
    api = client(tiny)
    options = {"temperature": 0.8, "seed": 7, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repeat_penalty": 1.1,
               "num_predict": 8, "num_ctx": 2048, "stop": ["zzzz"], "num_gpu": 1, "mirostat": 0}
    first = api.chat(model="tiny", messages=ask("Hello"), options=options)
    again = api.chat(model="tiny", messages=ask("Hello"), options=options)
    assert first.message.content == again.message.content
    same = tiny.post("/v1/chat/completions", {"messages": ask("Hello"), "temperature": 0.8, "seed": 7, "top_k": 40,
                                              "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1, "max_tokens": 8,
                                              "stop": ["zzzz"]}).json()
    assert same["choices"][0]["message"]["content"] == first.message.content
    scored = api.chat(model="tiny", messages=ask("Hello"), options=options, logprobs=True, top_logprobs=2)
    assert len(scored.logprobs) == scored.eval_count and all(len(t.top_logprobs) == 2 for t in scored.logprobs)


def test_load(scripted):
    api = client(scripted)
    assert api.generate(model="tiny").done_reason == "load"
    assert api.chat(model="tiny", messages=[], keep_alive="5m").done_reason == "load"


def test_refusals(scripted):
    with pytest.raises(ollama.ResponseError) as error:
        client(scripted).chat(model="other", messages=ask("x"))
    assert error.value.status_code == 404 and "other" in error.value.error
    assert "images" in refused(scripted, "/api/generate", prompt="x", images=["AAAA"])
    assert "images" in refused(scripted, "/api/chat", messages=[{"role": "user", "content": "x", "images": ["AAAA"]}])
    assert "num_ctx" in refused(scripted, "/api/chat", messages=ask("x"), options={"num_ctx": 1000000})
    assert "keep_alive" in refused(scripted, "/api/chat", messages=ask("x"), keep_alive="soon")
    assert "keep_alive" in refused(scripted, "/api/chat", messages=ask("x"), keep_alive=[])
    assert "context" in refused(scripted, "/api/generate", prompt="x", context=[1, 2])
    assert "template" in refused(scripted, "/api/generate", prompt="x", template="{{ .Prompt }}")
    assert "raw" in refused(scripted, "/api/generate", prompt="x", raw=True, system="y")
    assert "suffix" in refused(scripted, "/api/generate", prompt="x", suffix="y")
    for name in ("width", "height", "steps"):
        assert name in refused(scripted, "/api/generate", prompt="x", **{name: 64})
    for name in ("truncate", "shift"):
        assert name in refused(scripted, "/api/chat", messages=ask("x"), **{name: True})
    assert "verbose" in refused(scripted, "/api/show", verbose=True)
    assert "mirostat" in refused(scripted, "/api/chat", messages=ask("x"), options={"mirostat": 1})
    assert "thinking" in refused(scripted, "/api/chat", messages=ask("x"), think=True)
    assert "repeat" in refused(scripted, "/api/chat", messages=ask("x"),
                               options={"repeat_penalty": 1.2, "repeat_last_n": 64})
    assert scripted.http.get("/api/nothing").json().keys() == {"error"}


def test_failure_in_a_stream(scripted):
    with pytest.raises(ollama.ResponseError):
        list(client(scripted).chat(model="tiny", messages=ask("KEY-FAIL"), stream=True))
    with pytest.raises(ollama.ResponseError):
        client(scripted).chat(model="tiny", messages=ask("KEY-FAIL"))


def test_what_is_served(smollm):
    api = client(smollm)
    models = {m.model: m for m in api.list().models}
    assert "smol:latest" in models and not any("*" in name for name in models)
    smol = models["smol:latest"]
    assert len(smol.digest) == 64 and smol.size > 1e7 and smol.details.family == "llama"
    shown = api.show("smol")
    assert shown.template and shown.modelinfo["general.architecture"] == "llama" and shown.details.format == "gguf"
    assert shown.modelinfo["llama.context_length"] > 0
    running, = api.ps().models
    assert running.context_length == 2048 and running.model == "smol:latest"
    assert smollm.http.get("/api/version").json()["version"]
