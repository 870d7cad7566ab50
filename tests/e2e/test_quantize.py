"""Precisions of a model: convert and quantize, what others read of what they write, and the choice when it is loaded."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from ask import complete, text
from harness import BACKEND, BUILD, SANITIZER, TANDEM, Server, environment, make_model, missing, tiny_config

pytestmark = pytest.mark.skipif(BACKEND != "cpu", reason="files are the same on every backend")
PROMPT = "The quick brown fox"
EXACT = ["--cpu-kernels", "reference", "--kv-type", "f32"]
N_SEQUENCES, CONTEXT, BATCH = 4, 256, 64


def tandem(*arguments, ok=True, env=None):
    done = subprocess.run([TANDEM, *map(str, arguments)], capture_output=True, text=True, env=environment(env))
    assert (done.returncode == 0) == ok, done.stderr
    return done.stdout if ok else done.stderr


def greedy(model, *options):
    return tandem("run", model, PROMPT, "--raw", "--temperature", 0, "--max-tokens", 8, "--quantize", "none", *EXACT, *options)


def folder_of(config, out, kind):
    """The random model as a folder in floats of that kind, with the byte-level tokenizer."""
    source = make_model(config, f"{out}.gguf")
    tandem("convert", source, out, "--type", kind)
    return out


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return folder_of(tiny_config(n_vocab=512), tmp_path_factory.mktemp("quantize") / "tiny", "f32")


# ---- files ----

def test_convert_there_and_back(tiny_folder, tmp_path):
    there, back = tmp_path / "there.gguf", tmp_path / "back"
    tandem("convert", tiny_folder, there)
    tandem("convert", there, back)
    assert greedy(tiny_folder) == greedy(there) == greedy(back)
    weights = [json.loads(tandem("inspect", m, "--json")) for m in (tiny_folder, back)]
    assert weights[0]["parameters"] == weights[1]["parameters"]
    assert (tiny_folder / "model.safetensors").read_bytes() == (back / "model.safetensors").read_bytes()


def test_a_folder_keeps_its_templates(tiny_folder, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(tiny_folder, source)
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    (tmp_path / "out.part" / "additional_chat_templates").mkdir(parents=True)  # of a run that was cut off
    tandem("quantize", source, out, "--format", "mlx", "--type", "q8_0")
    for name in ("chat_template.jinja", "additional_chat_templates/tool_use.jinja"):
        assert (out / name).read_text() == (source / name).read_text()
    assert not (tmp_path / "out.part").exists()


def test_refusals(tiny_folder, tmp_path):
    quantized = tmp_path / "q.gguf"
    tandem("quantize", tiny_folder, quantized, "--type", "8")
    assert "quantized already" in tandem("quantize", quantized, tmp_path / "again.gguf", ok=False)
    tandem("quantize", quantized, tmp_path / "again.gguf", "--type", "q4_0", "--requantize")
    assert "in that format already" in tandem("convert", tiny_folder, tmp_path / "same", ok=False)
    assert "does not fit" in tandem("run", quantized, "x", "--memory", "1M", ok=False)
    assert "--override-kv" in tandem("run", tiny_folder, "x", "--quantize", "8", "--override-kv", "config.x=int:1", ok=False)
    assert "tandem convert" in tandem("quantize", tiny_folder, tmp_path / "f.gguf", "--type", "f16", ok=False)
    assert "the model itself" in tandem("quantize", quantized, quantized, "--type", "q4_0", "--requantize", ok=False)
    assert "is there already" in tandem("quantize", tiny_folder, tmp_path, "--format", "mlx", ok=False)
    assert "no precision" in tandem("quantize", tiny_folder, tmp_path / "f.gguf", "--type", "7", ok=False)
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "f.gguf").exists()


def test_mlx_lm_reads_the_folder(tiny_folder, tmp_path):
    """And says the same: its greedy tokens are those of the same weights here, on the reference kernels."""
    mlx_lm = pytest.importorskip("mlx_lm")
    import mlx.core as mx
    out = tmp_path / "mlx"
    tandem("quantize", tiny_folder, out, "--type", "4", "--format", "mlx")
    config = json.loads((out / "config.json").read_text())
    assert config["quantization"]["bits"] == 4 and config["quantization"]["model.embed_tokens"]["bits"] == 6
    model, tokenizer = mlx_lm.load(str(out))
    assert "QuantizedLinear" in str(type(model.model.layers[0].self_attn.q_proj))
    model.set_dtype(mx.float32)
    ids = tokenizer.encode(PROMPT, add_special_tokens=False)
    theirs = []
    for _ in range(8):
        theirs.append(int(mx.argmax(model(mx.array([ids + theirs]))[0, -1])))
    ours = greedy(out, "--max-tokens", 8).removesuffix("\n")
    assert tokenizer.decode(theirs) == ours


def test_llama_cpp_reads_the_file(tiny_folder, tmp_path):
    """Where llama-cpp-python is there: it loads what is written, and its greedy text is ours."""
    llama_cpp = pytest.importorskip("llama_cpp")
    for kind in ("keep", "8", "4"):
        out = tmp_path / f"{kind}.gguf"
        tandem(*(("convert", tiny_folder, out) if kind == "keep" else ("quantize", tiny_folder, out, "--type", kind)))
        model = llama_cpp.Llama(str(out), n_ctx=64, verbose=False)
        ids = model.tokenize(PROMPT.encode(), add_bos=False)
        answer = model(ids, max_tokens=8, temperature=0)["choices"][0]["text"]
        if kind == "keep":
            assert answer == greedy(out).removesuffix("\n").replace("\ufffd", "")  # bytes that are no text are dropped there


def test_eval_and_importance(tmp_path):
    config = tiny_config(n_vocab=512)
    for t in config["tensors"]:
        t["std"] = 1.0 if "norm" in t["name"] else t["std"]  # columns that matter, and others
    tiny_folder = folder_of(config, tmp_path / "tiny", "f32")
    sample, stored = tmp_path / "text.txt", tmp_path / "importance.txt"
    sample.write_text("One two three four five six seven. " * 12)
    plain, told = tmp_path / "plain.gguf", tmp_path / "told.gguf"
    tandem("quantize", tiny_folder, plain, "--type", "q4_0")
    tandem("quantize", tiny_folder, told, "--type", "q4_0", "--calibrate", sample, "--importance", stored)
    again = tmp_path / "again.gguf"
    tandem("quantize", tiny_folder, again, "--type", "q4_0", "--importance", stored)
    assert again.read_bytes() == told.read_bytes() != plain.read_bytes()

    def evaluate(model, *more):
        return json.loads(tandem("eval", model, "--text", sample, "--window", 128, "--json", *EXACT, *more))

    same = evaluate(tiny_folder, "--against", tiny_folder)
    assert same["kl_mean"] == 0 and same["same_top"] == 1 and same["perplexity"] == same["against_perplexity"]
    kl = [evaluate(m, "--against", tiny_folder)["kl_mean"] for m in (plain, told)]
    print(f"KL of 4 bits: {kl[0]:.5f}; with importance {kl[1]:.5f}")
    assert 0 < kl[1] < kl[0]


# ---- the choice when a model is loaded ----

@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Some 20 million weights in bf16: what differs between precisions is more than what a process takes by chance."""
    def tensor(name, *shape, std=0.05, offset=0.0):
        return {"name": name, "shape": list(shape), "std": std, "offset": offset}

    config = tiny_config(n_vocab=320)
    n, ff, layers = 512, 1536, 6
    config["metadata"].update({"llama.block_count": ["u32", layers], "llama.embedding_length": ["u32", n],
                               "llama.feed_forward_length": ["u32", ff], "llama.attention.head_count": ["u32", 8]})
    config["tensors"] = [tensor("token_embd.weight", 320, n, std=0.4), tensor("output_norm.weight", n, offset=1.0)]
    for i in range(layers):
        config["tensors"] += [tensor(f"blk.{i}.{name}.weight", *shape, offset=offset) for name, shape, offset in (
            ("attn_norm", (n,), 1.0), ("attn_q", (n, n), 0.0), ("attn_k", (n // 4, n), 0.0), ("attn_v", (n // 4, n), 0.0),
            ("attn_output", (n, n), 0.0), ("ffn_norm", (n,), 1.0), ("ffn_gate", (ff, n), 0.0), ("ffn_up", (ff, n), 0.0),
            ("ffn_down", (n, ff), 0.0))]
    return folder_of(config, tmp_path_factory.mktemp("large") / "model", "bf16")


def options(*more):
    return ["--max-context", CONTEXT, "--max-sequences", N_SEQUENCES, "--max-batch-tokens", BATCH, *more]


def needs(model):
    """Bytes of weights by bits, and of the rest, as the error of a memory that is far too small says it."""
    said = tandem("run", model, "x", "--quantize", "none", "--memory", "1M", "--max-context", CONTEXT,
                  "--max-batch-tokens", BATCH, ok=False)
    weights, kv, rest = map(int, re.search(r"(\d+) bytes of weights, (\d+) of KV .* and (\d+) besides", said).groups())
    sizes = {b: json.loads(tandem("inspect", model, "--json", "--quantize", b))["precision"]["weights"] for b in (8, 4)}
    return {0: weights, **sizes}, N_SEQUENCES * kv + rest + (1 << 20)


def check(server, bits):
    status = server.status()["models"][0]
    assert status["precision"]["bits"] == bits, status["precision"]
    assert text(complete(server, PROMPT, temperature=0, max_tokens=4))
    return status


@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers take memory of their own")
def test_three_limits(large, tmp_path):
    """--memory is divided among weights, KV and scratch, and not exceeded; what is made is made once."""
    sizes, rest = needs(large)
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    for bits in (0, 8, 4):
        limit = sizes[bits] + rest
        with Server(large, *options("--memory", limit), env=cache) as server:
            memory = check(server, bits)["memory"]
            assert memory["weights"] + memory["kv_pool"] + memory["scratch"] <= limit
            assert ("precision" in server.log()) and ("bits=%d" % bits in server.log())
            assert server.status()["models"][0]["model"] == "model"
    assert "Not even 4 bits fit" in tandem("run", large, "x", "--memory", sizes[4], "--max-context", CONTEXT, ok=False)
    made = sorted(tmp_path.glob("tandem/quantized/*/model.gguf"))
    assert len(made) == 2 and not list(tmp_path.glob("tandem/quantized/*/*.part"))


@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers take time of their own")
def test_second_start_and_a_broken_cache(large, tmp_path):
    """The second start finds the file; what is broken in the cache is made again."""
    cache = {"XDG_CACHE_HOME": str(tmp_path)}

    def start(model, *more):
        began = time.monotonic()
        tandem("run", model, "x", "--raw", "--max-tokens", 1, *more, env=cache)
        return time.monotonic() - began

    start(large, "--quantize", "4")
    made, = tmp_path.glob("tandem/quantized/*-4/model.gguf")
    stamp = made.stat().st_mtime_ns
    pairs = [(start(large, "--quantize", "4"), start(made)) for _ in range(2)]
    assert made.stat().st_mtime_ns == stamp
    print("second start, and that of the file itself:", pairs)
    assert min(a for a, _ in pairs) <= 1.2 * min(b for _, b in pairs) + 0.05  # of runs of a process: start-up and exit
    made.write_bytes(made.read_bytes()[:100000])
    start(large, "--quantize", "4")
    assert made.stat().st_size > 1 << 20


@contextlib.contextmanager
def group_of(limit):
    """A control group with that much memory, into which a process goes by its own hands; skips where none can be made."""
    for base, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        path = pathlib.Path(base) / f"tandem-quantize-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / file).exists():
            (path / file).write_text(str(limit))
            break
        path.rmdir()
    else:
        pytest.skip("no control group can be made here")
    try:
        yield path
    finally:
        for _ in range(50):  # its last process may still be ending; no return here, which would swallow what failed
            with contextlib.suppress(OSError):
                path.rmdir()
                break
            time.sleep(0.1)


def held_by(group):
    """Bytes that the kernel cannot take back from a control group: of processes, and of files in memory; and kills for it."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    v1 = (group / "memory.oom_control").exists()
    events = dict(line.split() for line in (group / ("memory.oom_control" if v1 else "memory.events")).read_text().splitlines())
    return int(stat["rss" if v1 else "anon"]) + int(stat["shmem"]), int(events["oom_kill"])


@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers take memory of their own")
def test_a_control_group_chooses(large, tmp_path):
    """Without --memory the limit is the group's: three of them, none of which the kernel has to enforce."""
    sizes, rest = needs(large)
    for bits in (0, 8, 4):
        smaller = {0: 8, 8: 4, 4: 4}[bits]
        larger = {0: 0, 8: 0, 4: 8}[bits]
        least = (sizes[bits] + rest) / 0.9
        limit = int(least + (24 << 20) if bits == 0 else (least + (sizes[larger] + rest) / 0.9) / 2 + (1 << 20))
        assert sizes[smaller] <= sizes[bits] <= sizes[larger]
        with group_of(limit) as group:
            server = Server(large, *options(), env={"XDG_CACHE_HOME": str(tmp_path)})
            server.arguments = ["sh", "-c", f"echo $$ > {group}/cgroup.procs && exec \"$@\"", "sh", *server.arguments]
            with server:
                status = check(server, bits)
                assert "control group" in status["precision"]["why"]
                ids = [1 + i % 50 for i in range(CONTEXT - 64)]
                for _ in range(3):  # the context filled, as often as was asked for at once
                    server.complete(ids, max_tokens=32)
                held, kills = held_by(group)
                assert server.status()["models"][0]["engine"]["restarts"] == kills == 0
                print(f"{bits} bits: limit {limit >> 20} MiB, weights {sizes[bits] >> 20}, held besides {held >> 20}")
                assert 0 < held < 0.9 * limit - sizes[bits]  # also where the weights are mapped, and not in what is held


@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers take memory of their own")
def test_models_on_demand_choose(large, tmp_path):
    """Each model is loaded in what fits into the budget alone, or in what its entry says; it is made at its first use, and
    its need is that of what was made."""
    sizes, rest = needs(large)
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"folder": False, "models": [
        {"name": "chosen", "model": str(large)}, {"name": "whole", "model": str(large), "options": {"quantize": "none"}},
        {"name": "told", "model": str(large), "options": {"quantize": "4", "max-sequences": 2}}]}))
    budget = sizes[4] + rest
    server = Server("", *options("--memory", budget, "--models", file, "--keepalive-ms", 100), env={"XDG_CACHE_HOME": str(tmp_path)})
    server.arguments.remove("")

    def model(name):
        return next(m for m in server.status()["models"] if m["model"] == name)

    with server:
        assert not list(tmp_path.glob("tandem/quantized/*/*"))  # nothing at the start
        late = server.post("/v1/completions", {"model": "chosen", "prompt": PROMPT, "timeout": 0.1})
        assert late.status_code == 504 and "100 ms" in late.json()["error"]["message"]  # its time holds while it is made
        with server.http.stream("POST", "/v1/completions", json={"model": "chosen", "prompt": PROMPT, "max_tokens": 4,
                                                                 "temperature": 0, "stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert re.fullmatch(r": model 'chosen' is loading \(\d+%\)", lines[0]) and lines[-1] == "data: [DONE]"
        said = {name: server.complete(PROMPT, model=name, temperature=0, max_tokens=4)["choices"][0]["text"]
                for name in ("chosen", "told")}
        assert said["chosen"] == said["told"]
        assert (model("chosen")["precision"]["bits"], model("told")["precision"]["bits"]) == (4, 4)
        assert "the budget of all models" in model("chosen")["precision"]["why"]
        made, = tmp_path.glob("tandem/quantized/*/model.gguf")
        assert model("chosen")["need"]["weights"] == made.stat().st_size and model("chosen")["need"]["total"] <= budget
        reply = server.post("/v1/completions", {"model": "whole", "prompt": PROMPT})
        assert reply.status_code == 507 and model("whole")["precision"]["bits"] == 0


@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers take memory of their own")
def test_the_pool_gets_the_rest_of_the_memory(large, tmp_path):
    """Of a model whose context could use more than there is."""
    sizes, rest = needs(large)
    limit = sizes[0] + rest + (64 << 20)
    with Server(large, "--memory", limit, "--max-batch-tokens", BATCH, env={"XDG_CACHE_HOME": str(tmp_path)}) as server:
        memory, need = check(server, 0)["memory"], server.status()["models"][0]["need"]
        assert limit - (4 << 20) < need["total"] <= limit and memory["kv_pool"] > 48 << 20
