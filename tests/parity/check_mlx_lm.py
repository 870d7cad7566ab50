#!/usr/bin/env python3
"""Folders as mlx-lm writes them, on every backend, against mlx-lm on the same folder, live: small random models of several
families in f32 and bf16, quantized affine with 2 to 8 bits, mxfp4, mxfp8 and nvfp4, all of a model or mixed. Then the real
GGUF files through MLX against the reference kernels. Some are packed as AutoAWQ does, with scales that mlx-lm's biases in f16 are
exact for.

Usage: check_mlx_lm.py [--build FOLDER] [--only NAME]
Logits are compared in f32 (weights widened or dequantized): within 1e-3 of their standard deviation. The cpu backend's own
kernels quantize activations beside quantized weights, as for GGUF files: there the root of the mean square is within 0.5 (an
expert chosen otherwise is half of that; unrelated logits are 1.4 apart). Exit status 1 on a larger difference, 77 when a
package is missing."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
try:
    import mlx.core as mx
    import numpy as np
    from mlx_lm import utils
except ImportError as missing:
    print(f"skip: {missing} (pip install mlx mlx-cpu mlx-lm)")
    sys.exit(77)

sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import packing  # noqa: E402

TOLERANCE, INT8_TOLERANCE = 1e-3, 0.5
# transformers is the oracle (tests/data/parity) of what mlx-lm does otherwise: Phi-3, whose LongRoPE it reads from older keys only;
# Gemma 1, whose GELU it computes exactly; GLM, of which it rotates all dimensions; widths of heads in Command R and EXAONE 4.
MODELS = ["llama-llama3", "qwen2-tied", "qwen3", "gemma2", "gemma3", "smollm3", "granite", "olmo2", "mixtral", "qwen3moe",
          "cohere", "glm4", "seed_oss", "ernie4_5", "stablelm", "stablelm-parallel", "internlm2", "internlm3", "minicpm",
          "lfm2", "lfm2moe", "qwen3next"]
# mlx-lm adds 1 to their norms as it reads them, which rounds in BF16
RAISED = ["qwen3next"]
# what transformers has defaults for and mlx-lm wants
DEFAULTS = {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True}
STABLELM_DEFAULTS = {"use_qkv_bias": False, "partial_rotary_factor": 0.25}
ALL = MODELS[:1] + ["qwen2-tied", "mixtral"]  # models that come in every format; the others in the usual ones
USUAL = [("affine", 4, 32), ("affine", 8, 64)]
FORMATS = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64)]
FORMATS += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
AWQ = ["llama-llama3", "qwen2-tied", "qwen3"]  # of these mlx-lm takes F16 as it is
REAL = ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
TEXT = random.Random(5).choices(range(256), k=96)
failures = 0


def ours(args, folder, backend, ids):
    done = subprocess.run([args.build / "logits_probe", folder, backend], input=" ".join(map(str, ids)).encode(), capture_output=True)
    if done.returncode:
        return done.stderr.decode().strip()
    return np.frombuffer(done.stdout, dtype=np.float32).reshape(len(ids), -1)


def load(folder):
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    defaults = dict(DEFAULTS, block_dim=config["hidden_size"], **(STABLELM_DEFAULTS if config["model_type"] == "stablelm" else {}))
    return utils.load_model(pathlib.Path(folder), lazy=False, model_config={k: v for k, v in defaults.items() if k not in config})


def theirs(folder, ids):
    model, _ = load(folder)
    model.set_dtype(mx.float32)
    return np.array(model(mx.array([ids])).astype(mx.float32))[0]


def is_quantized(folder):
    config = pathlib.Path(folder, "config.json")
    return config.exists() and not {"quantization", "quantization_config"}.isdisjoint(json.loads(config.read_text()))


def report(name, backend, got, want, int8=False):
    global failures
    if isinstance(got, str):
        print(f"{name:<34} {backend:<10} {got}", flush=True)
        failures += 1
        return 0.0
    difference = np.abs(got - want)
    deviation = float((np.sqrt(np.square(difference).mean()) if int8 else difference.max()) / want.std())
    ok = deviation < (INT8_TOLERANCE if int8 else TOLERANCE)
    failures += not ok
    if not ok:
        print(f"{name:<34} {backend:<10} {deviation:.1e} std", flush=True)
    return deviation


def compare(args, name, folder):
    ids = TEXT[:24] if name.startswith("gemma2") else TEXT  # mlx-lm's Gemma 2 has no window, this one's is 24
    before, want = failures, theirs(folder, ids)
    worst = {False: 0.0, True: 0.0}
    for backend in ("reference", "cpu", "mlx"):
        got = ours(args, folder, backend, ids)
        int8 = backend == "cpu" and is_quantized(folder)
        deviation = report(name, backend, got, want, int8)
        worst[int8] = max(worst[int8], deviation)
    if failures == before:
        print(f"{name:<34} {worst[False]:.1e} std, int8 {worst[True]:.1e}", flush=True)


def save(model, config, source, folder):
    folder.mkdir()
    utils.save_model(folder, model, donate_model=False)
    (folder / "config.json").write_text(json.dumps(config))
    for extra in ("tokenizer.json", "tokenizer_config.json"):
        if (source / extra).exists():
            (folder / extra).write_bytes((source / extra).read_bytes())


def quantized(source, folder, mode, bits, group, mixed=False):
    model, config = load(source)

    def predicate(path, module):  # some modules with parameters of their own, one left alone
        if not mixed or not hasattr(module, "to_quantized"):
            return True
        if path.endswith("v_proj"):
            return {"bits": 8, "group_size": 32, "mode": "affine"}
        return not path.endswith("o_proj")

    model, config = utils.quantize_model(model, config, group_size=group, bits=bits, mode=mode, quant_predicate=predicate)
    save(model, config, source, folder)


def make(args, name, folder, *options):
    subprocess.run([args.build / "make_random_model", *options, ROOT / "tests" / "data" / "parity" / f"{name}.json", folder], check=True)


def check_random(args, scratch, name):
    for kind in ("F32",) if name in RAISED else ("F32", "BF16"):
        folder = scratch / f"{name}-{kind}"
        make(args, name, folder, "--type", kind)
        compare(args, f"{name} {kind}", folder)
    for mode, bits, group in FORMATS if name in ALL else USUAL:
        label = f"{mode}-{bits}-{group}"
        folder = scratch / f"{name}-{label}"
        quantized(scratch / f"{name}-F32", folder, mode, bits, group)
        compare(args, f"{name} {label}", folder)
    folder = scratch / f"{name}-mixed"
    quantized(scratch / f"{name}-F32", folder, "affine", 4, 32, mixed=True)
    compare(args, f"{name} mixed", folder)


def check_awq(args, scratch, name):
    source, out = scratch / f"{name}-F16", scratch / f"{name}-awq"
    make(args, name, source, "--type", "F16")
    packing.packed_folder(source, out, "awq", rounded=packing.coarse)
    compare(args, f"{name} awq", out)


def check_real(args, file):
    models = pathlib.Path(os.environ.get("TANDEM_MODELS") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tandem" / "models")
    path = models / file
    if not path.exists():
        print(f"{file} is not there: not compared")
        return
    ids = TEXT[:24]
    want = ours(args, path, "reference", ids)
    got = ours(args, path, "mlx", ids)
    if isinstance(want, str):
        got, want = want, None
    report(file, "mlx", got, want)
    if not isinstance(got, str):
        print(f"{file:<46} {float(np.abs(got - want).max() / want.std()):.1e} std", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--only")
    args = parser.parse_args()
    args.build = args.build.resolve()
    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            if not args.only or args.only in name:
                check_random(args, pathlib.Path(scratch), name)
            if name in AWQ and (not args.only or args.only in f"{name} awq"):
                check_awq(args, pathlib.Path(scratch), name)
    for file in REAL:
        if not args.only or args.only in file:
            check_real(args, file)
    print(f"{failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
