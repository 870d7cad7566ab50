"""Folders of AutoAWQ, AutoGPTQ and compressed-tensors, from `inspect` to a server: the same as the same values in floats."""
import json
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

mx = pytest.importorskip("mlx.core")

from ask import complete
from harness import BACKEND, TANDEM, Server, environment, make_model, tiny_config
from packing import packed_folder

PROMPT = "The quick brown fox"
EXACT = ["--kv-type", "f32", *(["--cpu-kernels", "reference"] if BACKEND == "cpu" else [])]
KINDS = {"awq": {"method": "awq"}, "gptq": {"method": "gptq"}, "gptq-8": {"method": "gptq", "bits": 8},
         "act-order": {"method": "gptq", "desc_act": True}, "compressed": {"method": "compressed-tensors"}}


def tandem(*arguments, ok=True, env=None):
    done = subprocess.run([TANDEM, *map(str, arguments)], capture_output=True, text=True, env=environment(env))
    assert (done.returncode == 0) == ok, done.stderr
    return done.stdout if ok else done.stderr


def greedy(model, *options):
    return tandem("run", model, PROMPT, "--raw", "--temperature", 0, "--max-tokens", 8, "--backend", BACKEND, *EXACT, *options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    tandem("convert", make_model(tiny_config(n_vocab=512), folder / "tiny.gguf"), folder / "tiny", "--type", "f32")
    return folder / "tiny"


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_that_of_the_values(source, tmp_path, kind):
    packed, dense = packed_folder(source, tmp_path / "m", **KINDS[kind])
    assert greedy(packed) == greedy(dense)
    assert "8" in kind or greedy(packed) != greedy(source)  # 8 bits lose next to nothing


@pytest.mark.skipif(BACKEND != "cpu", reason="the same on every backend")
def test_inspect_and_list(source, tmp_path):
    packed, _ = packed_folder(source, tmp_path / "m", "awq")
    facts = json.loads(tandem("inspect", packed, "--json", "--tensors"))
    tensors = {t["name"]: t for t in facts["layout"]}
    down = tensors["model.layers.1.mlp.down_proj.weight"]
    assert down["type"] == "AWQ 4 bits in groups of 32" and down["shape"] == "64x96"
    assert down["cpu"] == "int8 panels, same codes"
    assert down["mlx_f32"] == "affine 4 bits in groups of 32, same values" and down["mlx_f16"].endswith("rounded")
    assert tensors["model.embed_tokens.weight"]["type"] == "F32" and not any("qweight" in name for name in tensors)
    assert facts["tensors"]["AWQ 4 bits in groups of 32"] == 14
    assert facts["precision"]["bits"] == 0 and "quantized already" in facts["precision"]["why"]
    shuffled, _ = packed_folder(source, tmp_path / "s", "gptq", desc_act=True)
    assert "columns sorted" in tandem("inspect", shuffled, "--json", "--tensors")
    models = tmp_path / "cache" / "tandem" / "models"
    models.mkdir(parents=True)
    packed.rename(models / "packed")
    listed = tandem("list", "--json", env={"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path)})
    assert [(m["file"], m["architecture"]) for m in json.loads(listed)] == [("packed", "llama")]


@pytest.mark.skipif(BACKEND != "cpu", reason="files are the same on every backend")
def test_convert_and_eval(source, tmp_path):
    packed, dense = packed_folder(source, tmp_path / "m", "gptq", desc_act=True)
    assert "quantized already" in tandem("quantize", packed, tmp_path / "q.gguf", "--type", "8", ok=False)
    tandem("convert", packed, tmp_path / "m.gguf", "--type", "f32")
    assert greedy(tmp_path / "m.gguf") == greedy(dense)
    (tmp_path / "text").write_text("A box of apples is on the table. " * 20)
    told = json.loads(tandem("eval", packed, "--text", tmp_path / "text", "--window", 128, "--json", *EXACT, "--against", dense))
    assert told["kl_max"] < 1e-6 and told["same_top"] == 1


@pytest.mark.skipif(BACKEND != "cpu", reason="files are the same on every backend")
@pytest.mark.parametrize("kind", ["awq", "gptq-8"])
def test_convert_to_mlx(source, tmp_path, kind):
    packed, dense = packed_folder(source, tmp_path / "m", **KINDS[kind])
    tandem("convert", packed, tmp_path / "mlx")
    assert "in that format already" in tandem("convert", dense, tmp_path / "again", ok=False)
    config = json.loads((tmp_path / "mlx" / "config.json").read_text())
    assert "quant_method" not in config["quantization_config"]
    made, values = load_file(tmp_path / "mlx" / "model.safetensors"), load_file(dense / "model.safetensors")
    for name, want in values.items():
        if "_proj" not in name:
            continue
        module = {part: mx.array(made[name.replace("weight", part)]) for part in ("weight", "scales", "biases")}
        sizes = {key: config["quantization"][key] for key in ("group_size", "bits")}
        got = np.array(mx.dequantize(module["weight"], module["scales"].astype(mx.float32), module["biases"].astype(mx.float32), **sizes))
        assert np.abs(got - want).max() <= 2.0**-11 * np.abs(made[name.replace("weight", "biases")]).max()  # f16 of the bias
    greedy(tmp_path / "mlx")


def test_serve(source, tmp_path):
    packed, dense = packed_folder(source, tmp_path / "m", "gptq", desc_act=True)
    answers = []
    for model in (packed, dense):
        with Server(model, *EXACT) as server:
            answers.append(complete(server, PROMPT, max_tokens=12, temperature=0)["choices"][0]["text"])
            assert ("not in the order of their groups" in server.log()) == (model == packed), server.log()
    assert answers[0] == answers[1] and answers[0]


@pytest.mark.skipif(BACKEND != "cpu", reason="found before a backend is asked")
def test_hostile_folders_name_what_is_wrong(source, tmp_path):
    packed, _ = packed_folder(source, tmp_path / "m", "gptq")
    name = "model.layers.0.self_attn.q_proj"
    tensors = load_file(packed / "model.safetensors")
    tensors[f"{name}.g_idx"][5] = 77
    save_file(tensors, packed / "model.safetensors")
    assert f"g_idx of the tensor '{name}.weight' puts column 5 into group 77" in tandem("run", packed, "x", ok=False)
    tensors[f"{name}.scales"] = np.ascontiguousarray(tensors[f"{name}.scales"].T)
    save_file(tensors, packed / "model.safetensors")
    assert f"'{name}.scales' has 2 axes" in tandem("run", packed, "x", ok=False)
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"]["bits"] = 2
    (packed / "config.json").write_text(json.dumps(config))
    assert "quantization_config.bits 2 is not supported" in tandem("inspect", packed, ok=False)
