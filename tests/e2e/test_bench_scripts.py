"""The scripts around the benchmarks: the comparison with llama.cpp, whose programs are stood in for by scripts that answer
in their formats, and the plots of cost growth. What they print and write, not how fast anything is."""
import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from harness import PATIENCE, ROOT, TANDEM, make_model, models_folder, tiny_config

pytestmark = pytest.mark.cpu_only("comparisons on the cpu backend")

# llama-bench -o json and llama-batched-bench --output-format jsonl, as the versions that compare.py builds write them
FAKES = {
    "llama-bench": """
        tests = [{"n_prompt": int(p), "n_gen": 0, "avg_ts": 100.0} for p in get("-p").split(",") if int(p)]
        tests += [{"n_prompt": 0, "n_gen": int(get("-n")), "avg_ts": 30.0 + (get("-fa") == "off")}] if int(get("-n")) else []
        print(json.dumps(tests))""",
    "llama-batched-bench": """
        print("a line of its log")
        for pl in map(int, get("-npl").split(",")):
            pp, tg = int(get("-npp")), int(get("-ntg"))
            assert pl * (pp + tg) <= int(get("-c")) and get("--output-format") == "jsonl"
            print(json.dumps({"pp": pp, "tg": tg, "pl": pl, "t_pp": 1.0, "t_tg": 1.0, "t": 2.0, "speed_tg": 1.0 * pl * tg}))""",
    "llama-quantize": """
        assert sys.argv[1] == "--allow-requantize" and sys.argv[4] == "Q4_0"
        shutil.copy(sys.argv[2], sys.argv[3])""",
    "llama-server": """
        os.execv(os.environ["TANDEM_PROGRAM"], ["tandem", "serve", get("-m"), "--port", get("--port"), "--threads", "1"])""",
}


@pytest.fixture(scope="module")
def model(smollm_path, tmp_path_factory):
    return make_model(tiny_config(context=1024), tmp_path_factory.mktemp("scripts") / "tiny.gguf", smollm_path)


@pytest.fixture
def llama(tmp_path):
    folder = tmp_path / "llama"
    folder.mkdir()
    for name, body in FAKES.items():
        head = f"#!{sys.executable}\nimport json, os, shutil, sys\nget = lambda k: sys.argv[sys.argv.index(k) + 1]\n"
        (folder / name).write_text(head + re.sub(r"^ {8}", "", body, flags=re.MULTILINE).lstrip("\n") + "\n")
        (folder / name).chmod(0o755)
    return folder


def script(name, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
    return subprocess.run([sys.executable, str(ROOT / "bench" / name), "--tandem", str(TANDEM), *map(str, arguments)],
                          capture_output=True, text=True, timeout=240 * PATIENCE,
                          env={**environment, "TANDEM_MODELS": str(models_folder()), "TANDEM_PROGRAM": str(TANDEM)})


def test_comparison_with_llama_cpp(model, llama, tmp_path):
    done = script("compare.py", "--llama", llama, "--model", model, f"{model}@Q4_0", "--repeat", 2, "--prefill", 40, "--streams", 1, 2,
                  "--clients", 1, 2, "--prompt", 12, "--new", 4, "--threads", 1, "--results", tmp_path / "r.csv", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    whats = ["prefill 40, tokens/s", "decode 128, tokens/s", "1 stream, tokens/s", "1 stream decoding, tokens/s",
             "2 streams, tokens/s", "2 streams decoding, tokens/s", "1 client, tokens/s", "1 client, first token s",
             "2 clients, tokens/s", "2 clients, first token s", "ready after ms"]
    for name in (model.name, f"{model.stem}-requantized-q4_0.gguf"):
        assert f"\n{name}, 1 threads, medians of 2" in done.stdout
    assert "llama.cpp, decode: flash attention off" in done.stdout  # the better one of the stand-in
    assert len(re.findall(r"^limits: read [\d.]+ GB/s, int8 \d+", done.stdout, re.MULTILINE)) == 2
    with open(tmp_path / "r.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["what"] for r in rows] == whats * 2
    for row in rows:
        assert row["kernels"] and float(row["tandem"]) > 0 and float(row["read GB/s"]) > 0
        assert float(row["tandem min"]) <= float(row["tandem"]) <= float(row["tandem max"])
        assert row["peer"] == "llama.cpp" and (row["what"] == "ready after ms") == (row["peer's"] == "")
    assert rows[0]["peer's"] == "100" and rows[1]["peer's"] == "31" and rows[2]["peer's"] == "2"


def test_comparison_without_the_peers_programs(tmp_path):
    done = script("compare.py", "--llama", tmp_path)
    assert done.returncode != 0 and "has no llama-bench, llama-batched-bench, llama-quantize, llama-server" in done.stderr


def test_growth_is_drawn(model, tmp_path):
    done = script("growth.py", "--model", model, "--streams", 1, 2, "--context", 40, 80, "--stream-context", 40, "--gen", 6, "--repeat",
                  1, "--threads", 1, 2, "--images", tmp_path, "--results", tmp_path / "growth.csv", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = xml.etree.ElementTree.parse(tmp_path / "growth-tiny.svg").getroot()
    texts = [t.text for t in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for text in ("Throughput by streams, context of 40", "Time between tokens by context, 1 stream", "1 thread", "2 threads", "bound"):
        assert text in texts
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 4 * 4
    with open(tmp_path / "growth.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(r["threads"], r["streams"], r["context"]) for r in rows] == [
        ("1", "1", "40"), ("1", "2", "40"), ("2", "1", "40"), ("2", "2", "40"), ("1", "1", "40"), ("1", "1", "80"), ("2", "1", "40"),
        ("2", "1", "80")]
    # drawn again from what was kept, without measuring
    (tmp_path / "growth-tiny.svg").unlink()
    done = script("growth.py", "--from", tmp_path / "growth-tiny.json", "--images", tmp_path)
    assert done.returncode == 0 and (tmp_path / "growth-tiny.svg").exists(), done.stderr


def test_takeovers_are_computed(tmp_path):
    """From bounds made up so that the crossings are known."""
    def row(threads, streams, context, weights, kv, products, attention):
        return {"threads": threads, "streams": streams, "context": context, "tokens_per_s": 1.0, "bound_tokens_per_s": 2.0,
                "inter_token_ms_p50": 1.0, "inter_token_ms_p95": 1.0, "bound_weights_ms": weights, "bound_kv_ms": kv,
                "bound_products_ms": products, "bound_attention_ms": attention}
    report = {"model": "made", "cpu": "cpu", "kernels": "none",
              "by_streams": [row(2, n, 256, 100, 1 * n, 10 * n, 1 * n) for n in (1, 2, 4, 8, 16, 32, 64)],
              "by_context": [row(2, 1, c, 100, c / 10, 50, c / 20) for c in (128, 8192)]}
    (tmp_path / "made.json").write_text(json.dumps(report))
    done = script("growth.py", "--from", tmp_path / "made.json", "--images", tmp_path)
    assert done.returncode == 0, done.stderr
    # 10 n + n = 100 + n; n = 100; c / 10 = 100; c / 20 = 50; memory is always ahead of arithmetic
    for text in ("arithmetic over memory: 10 ", "K and V over weights: 100 ", "K and V over weights: 1,000 ",
                 "attention over products: 1,000 "):
        assert text in done.stdout, done.stdout
    assert "change places" not in done.stdout
