"""`tandem bench` and `tandem bench-kernels` at tiny sizes: every figure is there and is a figure, filters filter, and what
cannot be measured is said in a sentence. No figure is expected to be of any size."""
import csv
import json
import math
import os
import re
import subprocess

import pytest

from harness import PATIENCE, TANDEM, make_model, models_folder, tiny_config

pytestmark = pytest.mark.cpu_only("the cpu backend's limits and ops")

USAGE = 2
LIMITS = {"threads", "read_per_s", "int8_per_s", "int4_per_s", "f32_per_s"}
OPS = ["embed", "embed_add", "rows", "linear", "norm", "add", "scale", "softcap", "rope", "gate", "cut", "join", "linear_heads",
       "multiply", "add_each", "activate_mul", "match", "stream_predict", "stream_correct", "kv_write", "attention", "short_conv", "delta_net",
       "mlp_gated", "mlp", "moe", "sample"]
MODEL_KEYS = ["test", "threads", "streams", "prompt", "context", "gen", "tokens_per_s", "tokens_per_s_min", "tokens_per_s_max",
              "decode_tokens_per_s", "first_token_ms", "inter_token_ms_p50", "inter_token_ms_p95", "inter_token_ms_p99", "bound_tokens_per_s",
              "bound_percent", "limit", "products_int8_percent", "whole_int8_percent", "attention_f32_percent",
              "bound_weights_ms", "bound_kv_ms", "bound_products_ms", "bound_attention_ms", *(f"{op}_ms" for op in OPS)]
KERNEL_KEYS = ["op", "shape", "type", "tokens", "context", "threads", "us", "us_min", "us_max", "gmacs_per_s", "gb_per_s",
               "bound_us", "bound_percent", "limit"]
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4", "F16",
         "BF16", "F32", "affine2", "affine3", "affine4", "affine5", "affine6", "affine8", "mlx-mxfp4", "mxfp8", "nvfp4"]


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
    return subprocess.run([str(TANDEM), *map(str, arguments)], capture_output=True, text=True, timeout=120 * PATIENCE,
                          env={**environment, "TANDEM_MODELS": str(models_folder())})


def figures(*arguments):
    """The report as JSON on standard output, and the table, which then is on standard error."""
    done = run(*arguments, "--json", "-")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def fails(message, *arguments):
    done = run(*arguments)
    assert done.returncode == USAGE, f"{done.returncode}: {done.stderr}"
    assert re.search(message, done.stderr), done.stderr


def check_head(report, threads):
    assert report["build"].startswith("tandem ") and report["cpu"] and report["kernels"]
    assert [limits["threads"] for limits in report["limits"]] == threads
    for limits in report["limits"]:
        assert set(limits) == LIMITS and all(math.isfinite(v) and v > 0 for v in limits.values())


def positive(row, keys):
    for key in keys:
        assert isinstance(row[key], (int, float)) and row[key] > 0, (key, row)


@pytest.fixture(scope="module")
def model(smollm_path, tmp_path_factory):
    """Two layers; a context of 512."""
    return make_model(tiny_config(context=512), tmp_path_factory.mktemp("bench") / "tiny.gguf", smollm_path)


SMALL = ["--prompt", "8,40", "--context", "40", "--gen", "6", "--streams", "1,3", "--batch-prompt", "5", "--repeat", "2"]


# ---- tandem bench ----

def test_every_figure_of_a_model(model):
    report, table = figures("bench", model, *SMALL, "--threads", "1,2")
    check_head(report, [1, 2])
    assert report["model"] == str(model) and report["kv_type"] == "f16"
    rows = report["rows"]
    assert [list(row) for row in rows] == [MODEL_KEYS] * len(rows)
    one_round = [("prefill", 1, 8, None, None), ("prefill", 1, 40, None, None), ("decode", 1, None, 40, 6),
                 ("decode", 3, None, 40, 6), ("batch", 1, 5, None, 6), ("batch", 3, 5, None, 6)]
    assert [(r["threads"], r["test"], r["streams"], r["prompt"], r["context"], r["gen"]) for r in rows] == [
        (threads, *what) for threads in (1, 2) for what in one_round]
    for row in rows:
        positive(row, ["tokens_per_s", "bound_tokens_per_s", "bound_percent", "bound_weights_ms", "bound_kv_ms",
                       "bound_products_ms", "bound_attention_ms"])
        assert row["tokens_per_s_min"] <= row["tokens_per_s"] <= row["tokens_per_s_max"]
        assert row["limit"] in ("weights", "kv", "products", "attention")
        if row["test"] == "prefill":
            positive(row, ["first_token_ms", "attention_f32_percent", "linear_ms", "mlp_gated_ms", "attention_ms", "sample_ms"])
            assert row["products_int8_percent"] is None  # its weights are f32
            assert row["moe_ms"] == 0
        else:
            positive(row, ["inter_token_ms_p50"] + (["decode_tokens_per_s"] if row["test"] == "batch" else []))
            assert row["inter_token_ms_p50"] <= row["inter_token_ms_p95"] <= row["inter_token_ms_p99"]
            assert row["linear_ms"] is None  # ops are timed when asked for
    assert len(re.findall(r"^(?:prefill|decode|batch) ", table, re.MULTILINE)) == len(rows)


def test_the_bound_counts_what_a_token_touches(model):
    report, _ = figures("bench", model, "--tests", "decode", "--context", "40", "--gen", "2", "--streams", "1", "--repeat", "1",
                        "--threads", "1")
    row, read = report["rows"][0], report["limits"][0]["read_per_s"] / 1e3
    config = tiny_config(context=512)  # f32, tied: all weights, once
    size = sum(4 * math.prod(t["shape"]) for t in config["tensors"])
    assert row["bound_weights_ms"] * read == pytest.approx(size, rel=1e-6)
    # 39 positions are seen by the middle row: 2 layers, K and V of 2 heads of 16 in f16
    assert row["bound_kv_ms"] * read == pytest.approx(39 * 2 * 2 * 2 * 16 * 2, rel=1e-6)


def test_a_quantized_model(smollm_path):
    report, _ = figures("bench", smollm_path, "--tests", "prefill", "--prompt", "32", "--repeat", "1", "--threads", "2")
    row = report["rows"][0]
    positive(row, ["products_int8_percent", "whole_int8_percent", "attention_f32_percent"])
    assert row["products_int8_percent"] >= row["whole_int8_percent"]


def test_tests_and_ops_are_chosen(model):
    report, table = figures("bench", model, *SMALL, "--threads", "1", "--tests", "batch,prefill", "--ops", "--kv-type", "f32",
                            "--cpu-kernels", "reference")
    assert [row["test"] for row in report["rows"]] == ["prefill", "prefill", "batch", "batch"]
    assert report["kv_type"] == "f32"
    for row in report["rows"]:
        positive(row, ["linear_ms", "mlp_gated_ms", "attention_ms", "norm_ms"])
    shares = re.findall(r"^ +(?:\w+ [\d.]+%, )*(linear) [\d.]+%.*(rest) -?[\d.]+%$", table, re.MULTILINE)
    assert shares == [("linear", "rest")] * 4


def test_more_tokens_than_the_default_contexts(model):
    report, _ = figures("bench", model, "--tests", "batch", "--gen", "300", "--batch-prompt", "5", "--streams", "1", "--repeat", "1",
                        "--threads", "1")
    assert [(row["test"], row["gen"]) for row in report["rows"]] == [("batch", 300)]


def test_files(model, tmp_path):
    done = run("bench", model, "--tests", "prefill", "--prompt", "8", "--repeat", "1", "--threads", "1", "--json",
               tmp_path / "r.json", "--csv", tmp_path / "r.csv")
    assert done.returncode == 0 and "prefill" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    with open(tmp_path / "r.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len(report["rows"]) == 1 and list(rows[0]) == MODEL_KEYS
    for key, value in report["rows"][0].items():
        if isinstance(value, (int, float)):
            assert float(rows[0][key]) == pytest.approx(value, rel=1e-8)
        else:
            assert rows[0][key] == (value or "")


def test_what_bench_refuses(model):
    fails(r"`tandem bench` needs a model", "bench")
    fails(r"unexpected argument 'b'", "bench", "a", "b")
    fails(r"--tests: 'decoding' is none of prefill, decode, batch", "bench", model, "--tests", "prefill,decoding")
    fails(r"--prompt: expected integers from 1 to \d+ separated by commas, but got '0'", "bench", model, "--prompt", "0")
    fails(r"--threads: .* but got '1000'", "bench", model, "--threads", "1000")
    fails(r"--streams: .* but got 'x'", "bench", model, "--streams", "1,x")
    fails(r"with --gen 64: --context: expected integers from 65 .* but got '64'", "bench", model, "--context", "64")
    fails(r"--context: sequences of 600 tokens are too long: the model takes 512", "bench", model, "--tests", "decode", "--context", "600")
    fails(r"--prompt: sequences of 513 tokens are too long", "bench", model, "--prompt", "512")
    fails(r"--batch-prompt and --gen: sequences of 520 tokens", "bench", model, "--tests", "batch", "--batch-prompt", "510",
          "--gen", "10")
    fails(r"--context: .* but got 'x'", "bench", model, "--tests", "prefill", "--context", "x")
    fails(r"--repeat: expected an integer from 1 to 1000", "bench", model, "--repeat", "0")
    fails(r"'f17' is no type of KV cache", "bench", model, "--kv-type", "f17")
    fails(r"is no kernel set", "bench", model, "--cpu-kernels", "sse")


# ---- tandem bench-kernels ----

def test_every_format_has_products():
    report, table = figures("bench-kernels", "--type", "all", "--shape", "64x256", "--op", "linear", "--tokens", "1,5", "--threads",
                            "1", "--repeat", "2")
    check_head(report, [1])
    rows = report["rows"]
    assert [list(row) for row in rows] == [KERNEL_KEYS] * len(rows)
    assert [(r["type"], r["tokens"]) for r in rows] == [(t, n) for t in TYPES for n in (1, 5)]
    for row in rows:
        assert (row["op"], row["shape"], row["threads"], row["context"]) == ("linear", "64x256", 1, None)
        positive(row, ["us", "us_min", "us_max", "gmacs_per_s", "gb_per_s", "bound_us", "bound_percent"])
        assert row["us_min"] <= row["us"] <= row["us_max"]
        assert row["gmacs_per_s"] * row["us"] * 1e3 == pytest.approx(64 * 256 * row["tokens"], rel=1e-6)
        assert row["limit"] in ("read", "int8", "int4", "f32")
    assert "linear " in table


@pytest.mark.parametrize(("op", "shape", "tokens", "expected"), [
    ("linear", "smollm2-135m.qkv", "2", {"linear"}),
    ("mlp", "smollm2", "3", {"mlp_gated"}),
    ("attention", "smollm2", "1", {"attention"}),
    ("norm,rope,add,embed", "smollm2", "4", {"norm", "norm_q8", "rope", "add_scale", "embed"}),
    ("sample", "smollm2", "2", {"sample_greedy", "sample_top_p"}),
])
def test_ops_are_chosen(op, shape, tokens, expected):
    report, _ = figures("bench-kernels", "--op", op, "--shape", shape, "--tokens", tokens, "--threads", "1", "--repeat", "1")
    rows = report["rows"]
    assert {row["op"] for row in rows} == expected
    assert all(row["shape"].startswith("smollm2") and row["tokens"] == int(tokens) and row["us"] > 0 for row in rows)


def test_kv_types_are_chosen():
    options = ["bench-kernels", "--op", "attention", "--shape", "smollm2", "--tokens", "1", "--threads", "1", "--repeat", "1"]
    rows = figures(*options)[0]["rows"]
    assert {row["type"] for row in rows} >= {"f32", "f16"} and {row["context"] for row in rows} == {128, 1024, 4096, 8192}
    rows = figures(*options, "--kv-type", "f32")[0]["rows"]
    assert {row["type"] for row in rows} == {"f32"}
    for row in rows:  # K and V of 3 heads of 64
        assert row["gb_per_s"] * row["us"] * 1e3 == pytest.approx(row["context"] * 3 * 128 * 4, rel=1e-6)


def test_kernel_sets_are_chosen():
    report, table = figures("bench-kernels", "--op", "linear", "--type", "q4_0", "--shape", "32x64", "--tokens", "1", "--threads",
                            "1,2", "--cpu-kernels", "reference", "--repeat", "1")
    check_head(report, [1, 2])
    assert [row["threads"] for row in report["rows"]] == [1, 2] and "plain C" in table


def test_what_bench_kernels_refuses():
    fails(r"takes no model", "bench-kernels", "smollm2")
    fails(r"--op: nothing begins with 'foo'", "bench-kernels", "--op", "linear,foo")
    fails(r"--type: nothing begins with 'q9'", "bench-kernels", "--type", "q9")
    fails(r"--shape: nothing begins with '5x5'", "bench-kernels", "--shape", "5x5")
    fails(r"--kv-type: nothing begins with 'q3'", "bench-kernels", "--kv-type", "f16,q3")
    fails(r"--tokens: .* but got '0'", "bench-kernels", "--tokens", "0")
    fails(r"unknown option '--prompt'", "bench-kernels", "--prompt", "1")
    fails(r"No case fits", "bench-kernels", "--op", "rope", "--shape", "64x64", "--threads", "1")
