import json
import threading
import time

import pytest
import tandem

CHAT = [{"role": "user", "content": "Hi"}]
LONG = dict(max_tokens=400, ignore_eos=True)


def test_versions():
    assert tandem.version().count(".") == 2
    assert tandem.library_path().endswith((".so.0", ".dylib"))


def test_info(model):
    assert model.info.architecture == "llama"
    assert model.info.n_vocab == 320 and model.info.n_context == 512
    assert model.info.tool_format == "hermes" and model.info.reasoning_format is None


def test_tokens(model):
    ids = model.tokenize("naïve \0 text")
    assert ids == list("naïve \0 text".encode())
    assert model.detokenize(ids) == "naïve \0 text"
    assert model.tokenize("<|im_end|>", parse_special=True) == [258]
    assert model.detokenize([258], skip_special=True) == ""
    assert model.tokenize("") == []


def test_render_chat(model):
    assert model.render_chat(CHAT) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_generate(model):
    options = dict(max_tokens=20, seed=7, ignore_eos=True)
    a, b = model.generate("Once", **options), model.generate("Once", **options)
    assert a.text == b.text and a.finish == "length"
    assert a.usage.prompt == 4 and a.usage.completion == 20
    assert model.generate([79, 110, 99, 101], **options).text == a.text
    assert model.generate("Once", **{**options, "seed": 8}).text != a.text
    assert len(model.generate("Once", n_choices=3, **options).choices) == 3


def test_json(model):
    schema = {"enum": ["yes", "no"]}
    assert json.loads(model.generate(CHAT, json_schema=schema, max_tokens=64).text) in ("yes", "no")
    assert model.generate(CHAT, choices=["left", "right"], max_tokens=64).text in ("left", "right")


def test_tool_calls(model):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
        "additionalProperties": False}}}
    answer = model.generate(CHAT, tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=200)
    assert answer.finish == "calls"
    [call] = answer.calls
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ("Paris", "Rome") and call.fault is None


def test_stream(model):
    options = dict(max_tokens=20, seed=7, ignore_eos=True)
    pieces = list(model.stream("Once", **options))
    assert len(pieces) > 1 and "".join(pieces) == model.generate("Once", **options).text
    events = list(model.stream("Once", **options).events())
    assert [e.kind for e in events[-2:]] == ["finish", "end"]
    assert events[-1].usage.completion == 20


def test_leaving_a_stream_cancels(model):
    started = time.monotonic()
    for n, piece in enumerate(model.stream("Once", **LONG)):
        if n == 2:
            break
    with model.stream("Once", **LONG) as stream:
        stream.cancel()
        assert [e.finish for e in stream.events() if e.kind == "finish"] in ([], ["cancelled"])
    assert time.monotonic() - started < 60


def test_callbacks(model):
    seen = []

    def on_event(event):
        seen.append(event.kind)
        return seen.count("text") < 3

    with model.start("Once", on_event, **LONG) as generation:
        assert generation.wait(60)
    assert seen.count("text") == 3 and seen[-1] == "end"


def test_what_a_callback_raises_is_raised(model):
    def on_event(event):
        raise KeyError("mine")

    with model.start("Once", on_event, **LONG) as generation:
        with pytest.raises(KeyError, match="mine"):
            generation.wait(60)


def test_threads_get_the_bytes_that_each_gets_alone(model):
    options = [dict(max_tokens=10 + i, seed=i, ignore_eos=True) for i in range(8)]
    alone = [model.generate(f"Thread {i}", **o).text for i, o in enumerate(options)]
    together = [None] * 8

    def work(i):
        together[i] = model.generate(f"Thread {i}", **options[i]).text

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_errors(model, tmp_path):
    with pytest.raises(tandem.Error) as e:
        tandem.Model("/nowhere/model.gguf")
    assert e.value.code == "NOT_FOUND"
    (tmp_path / "text.gguf").write_text("this is no model")
    with pytest.raises(tandem.Error) as e:
        tandem.Model(tmp_path / "text.gguf")
    assert e.value.code == "BAD_FORMAT"
    with pytest.raises(tandem.Error) as e:
        model.generate("x", temperature=1000)
    assert (e.value.code, e.value.param) == ("INVALID", "temperature")
    with pytest.raises(tandem.Error, match="maximum context"):
        model.generate("x", max_tokens=100000)
    with pytest.raises(TypeError, match="no option 'colour'"):
        model.generate("x", colour="red")
    with pytest.raises(ValueError, match="NUL"):
        model.generate("x\0y")


def test_a_closed_model_says_so(path):
    with tandem.Model(path, kv_memory=1 << 24) as other:
        running = other.start("Once", lambda event: True, **LONG)
    assert running.wait(0)
    running.close()
    with pytest.raises(tandem.Error, match="closed"):
        other.generate("x")


def test_progress_and_log(path):
    fractions, lines = [], []
    tandem.set_log("debug", lambda level, line: lines.append((level, line)))
    tandem.Model(path, kv_memory=1 << 24, progress=fractions.append).close()
    tandem.set_log()
    assert fractions == sorted(fractions)
    assert all(level in ("error", "warn", "info", "debug") for level, _ in lines)
