import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

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


def test_adapters(model, adapter):
    options = dict(max_tokens=20, seed=7, ignore_eos=True)
    plain = model.generate("Once", **options).text
    model.load_adapter("mine", adapter)
    adapted = model.generate("Once", adapter="mine", **options).text
    assert adapted != plain == model.generate("Once", adapter=None, **options).text
    [info] = model.adapters
    assert (info.name, info.rank, info.n_running) == ("mine", 8, 0)
    assert info.alpha == 16 and info.memory_size > 0 and info.fingerprint not in ("", model.info.fingerprint)
    with pytest.raises(tandem.Error) as e:
        model.load_adapter("mine", adapter)
    assert (e.value.code, e.value.param) == ("INVALID", "name")
    with model.stream("Once", adapter="mine", **options) as stream:
        model.unload_adapter("mine")  # what runs has it
        assert "".join(stream) == adapted
    assert model.adapters == []
    for use in (lambda: model.generate("Once", adapter="mine"), lambda: model.unload_adapter("mine"),
                lambda: model.load_adapter("mine", "/nowhere/adapter.gguf")):
        with pytest.raises(tandem.Error) as e:
            use()
        assert e.value.code == "NOT_FOUND"


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
    with pytest.raises(TypeError, match="'stops' is a list"):
        model.generate("x", stops="END")


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are UTF-8 there")
def test_a_name_that_is_no_utf8(path, tmp_path):
    other = tmp_path / os.fsdecode(b"model-\xff.gguf")
    os.symlink(path, other)
    tandem.Model(other, kv_memory=1 << 24, draft_model=other).close()


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


# ---- threads, ends, other processes ----

class Gate:
    """A generation whose callback keeps the thread of the model's events until open()."""

    def __init__(self, model):
        self.inside, self.opened = threading.Event(), threading.Event()
        self.generation = model.start("Once", self.stay, **LONG)
        assert self.inside.wait(60)

    def stay(self, event):
        self.inside.set()
        assert self.opened.wait(20)
        return False

    def open(self):
        self.opened.set()


def test_a_model_is_closed_while_others_generate(path):
    model = tandem.Model(path, kv_memory=1 << 24, threads=1)
    gate, answers = Gate(model), []
    threads = [threading.Thread(target=lambda: answers.append(model.generate("Once", n_choices=2, **LONG))) for _ in range(3)]
    closing = threading.Thread(target=model.close)
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    closing.start()
    gate.open()
    for thread in [closing, *threads]:
        thread.join(60)
    assert [c.finish for a in answers for c in a.choices] == ["cancelled"] * 6


def test_a_stream_is_closed_while_another_thread_reads_it(model):
    gate = Gate(model)
    stream, pieces = model.stream("Once", **LONG), []
    reader = threading.Thread(target=lambda: pieces.extend(stream))
    reader.start()
    time.sleep(0.1)
    stream.close()
    reader.join(10)
    gate.open()
    assert not reader.is_alive() and pieces == []


def test_a_generation_is_closed_while_another_thread_waits(model):
    gate, ended = Gate(model), []
    waiters = [threading.Thread(target=lambda: ended.append(gate.generation.wait())) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    gate.open()
    gate.generation.close()
    for waiter in waiters:
        waiter.join(60)
    assert ended == [True] * 3


def test_a_stream_that_is_forgotten_ends_at_once(model):
    gc.disable()
    try:
        stream = model.stream("Once", **LONG)
        generation = weakref.ref(stream._generation)
        del stream
        assert generation() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted as Linux shows them")
def test_the_last_reference_goes_in_a_callback(path):
    def n_threads():
        return len(os.listdir("/proc/self/task"))

    before = n_threads()
    kept = [tandem.Model(path, kv_memory=1 << 24, threads=1)]
    started, dropped = threading.Event(), threading.Event()

    def on_event(event):
        assert started.wait(60)
        kept.clear()  # the model, and the generation that holds it
        dropped.set()
        return False

    kept.append(kept[0].start("Once", on_event, **LONG))
    started.set()
    assert dropped.wait(60)
    until = time.monotonic() + 30
    while n_threads() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert n_threads() == before


@pytest.mark.parametrize("wait", [lambda model, gate: model.generate("x"), lambda model, gate: gate.generation.wait()],
                         ids=["generate", "wait"])
def test_ctrl_c(model, wait):
    """Whoever started this may have ignored the signal for it, as shells do for what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt(model, wait)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(model, wait):
    gate = Gate(model)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait(model, gate)
    assert time.monotonic() - started < 15
    gate.open()
    gate.generation.close()


def test_after_a_fork(path):
    """What came over is of no use, and goes without waiting for threads that are not there."""
    program = textwrap.dedent(f"""
        import os, sys, tandem
        model = tandem.Model({str(path)!r}, kv_memory=1 << 24, threads=1)
        running = model.start("Once", lambda event: True, max_tokens=400, ignore_eos=True)
        child = os.fork()
        if not child:
            try:
                model.tokenize("x")
            except tandem.Error as e:
                assert "process" in str(e)
                running.close()
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert running.wait(60)
        """)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
