"""Adapters: each answer is the one that its adapter gives alone, whatever else is in the batch, in the cache, loaded and
unloaded meanwhile, lost or resumed; and what is not to be loaded is refused."""
import json
import os
import shutil
import signal
import subprocess

import ollama
import pytest

import invariance
from harness import BACKEND, SMOLLM, TANDEM, Server, failing_server, metric, real_model, together
from lora_adapters import SMOLLM_SHAPE, TINY_SHAPE, write_gguf, write_peft

SHAPE = SMOLLM_SHAPE if BACKEND == "cpu" else TINY_SHAPE
exact = pytest.mark.cpu_only("bits do not depend on the batch")
LONG = 100 if BACKEND == "cpu" else 500  # words of more than a page
MODELS = ["smol", "smol:one", "smol:two", "smol:three"]


def write_adapters(folder, shape):
    write_peft(folder / "one", shape, 1, strength=0.3)
    write_peft(folder / "two", shape, 2, rank=16, targets=("q_proj", "v_proj"), strength=0.5, use_rslora=True)
    write_gguf(folder / "three.gguf", shape, 3, rank=4, strength=0.3)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_adapters(tmp_path_factory.mktemp("adapters"), SHAPE)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return write_adapters(tmp_path_factory.mktemp("adapters"), TINY_SHAPE)


def named(folder):
    return [word for name, file in (("one", "one"), ("two", "two"), ("three", "three.gguf"))
            for word in ("--lora", f"{name}={folder / file}")]


@pytest.fixture(scope="module")
def server(folder, tiny_path):
    model = real_model(SMOLLM) if BACKEND == "cpu" else tiny_path
    with Server(model, "--threads", 2, "--kv-memory", "128M", "--max-context", 1024, "--served-model-name", "smol",
                *named(folder), "--lora-dir", folder) as server:
        yield server


@pytest.fixture
def new_tiny(tiny_path, tiny_folder):
    def make(*options, **arguments):
        return Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--served-model-name", "smol", *options, **arguments)
    return make


def request(model, i=0, n=16, **fields):
    return "/v1/completions", {"model": model, "prompt": invariance.salad(i, 40), "max_tokens": n, "temperature": 0.8,
                               "seed": 7 + i, "ignore_eos": True, "logprobs": 3, **fields}


class Many(Server):
    """Without a model on the command line."""

    def __init__(self, *options, **arguments):
        super().__init__("", *options, **arguments)
        self.arguments.remove("")


# ---- answers ----

@exact
def test_mixed_batch_is_each_alone(server):
    requests = [request(model, i, stream=i == 0, **({"speculation": "on"} if i else {})) for i in range(2) for model in MODELS]
    alone = invariance.ask_alone(server, requests)
    for a in range(4):  # each adapter is one of its own
        for b in range(a):
            assert alone[a][0]["digests"][0] != alone[b][0]["digests"][0], (MODELS[a], MODELS[b])
    invariance.forget(server)
    invariance.assert_equal_answers(requests, alone, invariance.ask_together(server, requests))
    invariance.assert_equal_answers(requests, alone, invariance.ask_together(server, requests))  # all from the cache


def test_answers_on_every_backend(server):
    """That the weights have been adapted, and to what: of the adapter, not of the one before."""
    first = {model: server.complete("Once upon a time", model=model, max_tokens=1, temperature=0, logprobs=1)
             for model in MODELS * 2}
    values = {model: answer["choices"][0]["logprobs"]["token_logprobs"][0] for model, answer in first.items()}
    assert len(set(values.values())) == 4
    again = server.complete("Once upon a time", model="smol:two", max_tokens=1, temperature=0, logprobs=1)
    assert again["choices"][0]["logprobs"]["token_logprobs"][0] == pytest.approx(values["smol:two"], abs=1e-3)


@exact
def test_lost_engine(server):
    requests = [request(model, 3, n=40, stream=True) for model in MODELS]
    alone = invariance.ask_alone(server, requests)
    before = server.engine()["pid"]

    def kill():
        server.wait_for(lambda: sum(r["generated_tokens"] for r in server.model_status()["requests"]) > 30, "tokens")
        os.kill(before, signal.SIGKILL)

    *answers, _ = together([*[lambda r=r: invariance.ask(server, r)[0] for r in requests], kill])
    invariance.assert_equal_answers(requests, alone, answers)
    assert server.engine()["pid"] != before
    assert server.stats()["rows_prefill"] <= 2 * len(requests)  # what was computed is found with each adapter's keys
    assert {a["state"] for a in server.model_status()["adapters"]["data"]} == {"loaded"}


def cached(server, model, prompt):
    answer = server.complete(prompt, model=model, max_tokens=1)
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_prefixes_are_not_shared(server):
    prompt = invariance.salad(11, LONG)
    invariance.forget(server)
    assert [cached(server, model, prompt) for model in MODELS] == [0] * 4
    assert all(cached(server, model, prompt) > 64 for model in MODELS)


# ---- names ----

def test_names_on_every_api(server):
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    assert server.chat("Hi", model="smol:one", max_tokens=2)["model"] == "smol:one"
    assert server.chat("Hi", model="one", max_tokens=2)["model"] == "one"
    message = server.anthropic().messages.create(model="smol:two", **chat)
    assert message.model == "smol:two"
    assert server.ok("/v1/responses", {"model": "three", "input": "Hi", "max_output_tokens": 2, "store": False})["model"] == "three"
    for name in ("smol:one", "smol:one:latest", "two"):
        assert ollama.Client(server.url).chat(name, chat["messages"], options={"num_predict": 2}).model == name
    assert server.tokens("Hi", model="smol:one") == server.tokens("Hi")
    fingerprints = {server.complete("Hi", model=m, max_tokens=1)["system_fingerprint"] for m in MODELS}
    assert len(fingerprints) == 4
    assert "model=smol:two" in server.log()


def test_lists(server):
    models = {m["id"]: m for m in server.http.get("/v1/models").json()["data"]}
    assert models["smol:one"]["parent"] == "smol" and models["smol:one"]["root"].endswith("/one")
    assert models["smol"]["parent"] is None and models["smol"]["root"] == "smol"
    assert server.http.get("/v1/models/smol:two").json()["parent"] == "smol"
    assert "smol:three" in [m.id for m in server.anthropic().models.list()]
    assert "smol:three" in [m.model for m in ollama.Client(server.url).list().models]


def test_unknown_names(server):
    for name in ("smol:four", "four", "smol:", "other:one", "smol:one:two"):
        reply = server.post("/v1/completions", {"model": name, "prompt": "Hi", "max_tokens": 1})
        assert reply.status_code == 404 and reply.json()["error"]["code"] == "model_not_found", (name, reply.text)
        assert "smol:one, smol:two" in reply.text


# ---- at run time ----

def load(server, name, path, **fields):
    return server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path), **fields})


def unload(server, name):
    return server.post("/v1/unload_lora_adapter", {"lora_name": name, "lora_int_id": 1})


@exact
def test_loaded_and_unloaded_under_traffic(server, folder):
    steady = [request(model, 5, n=32, stream=True) for model in MODELS[:3]]
    alone = invariance.ask_alone(server, steady)
    one = invariance.ask_alone(server, [request("smol:one", 6)])[0]

    def come_and_go():
        answers = []
        for i in range(4):
            shutil.copytree(folder / "one", folder / f"copy{i}")
            assert load(server, f"copy{i}", f"copy{i}").status_code == 200
            answers.append(invariance.ask(server, request(f"smol:copy{i}", 6))[0])
            assert unload(server, f"copy{i}").status_code == 200
            assert server.post(*request(f"smol:copy{i}", 6)).status_code == 404
        return answers

    *answers, copies = together([*[lambda r=r: invariance.ask(server, r)[0] for r in steady], come_and_go])
    invariance.assert_equal_answers(steady, alone, answers)
    assert copies == [one] * 4
    server.wait_for(lambda: metric(server.metrics(), "tandem_adapter_changes_total", model="smol", what="dropped") >= 4,
                    "the engine has dropped them")
    server.wait_for(lambda: server.model_status()["adapters"]["memory"] == sum(
        a["memory"] for a in server.model_status()["adapters"]["data"]), "what is unloaded is freed")


@exact
def test_unloaded_while_a_request_runs(server, folder):
    ask = request("smol:gone", 8, n=60, stream=True)
    shutil.copytree(folder / "two", folder / "gone")
    assert load(server, "gone", folder / "gone").status_code == 200
    alone = invariance.ask_alone(server, [ask])

    def take_away():
        server.wait_for(lambda: server.model_status()["requests"], "it runs")
        assert unload(server, "gone").status_code == 200
        assert load(server, "gone", "one").status_code == 200  # another one of that name, with another number
        return invariance.ask(server, request("smol:gone", 6))[0]

    answer, other = together([lambda: invariance.ask(server, ask)[0], take_away])
    invariance.assert_equal_answers([ask], alone, [answer])
    assert other == invariance.ask(server, request("smol:one", 6))[0]
    assert server.post("/v1/models/smol:gone/unload", {}).json()["state"] == "unloaded"
    assert server.model_status()["state"] == "ready"


def test_equal_contents_share_prefixes(server, folder):
    """The key is what the adapter says, not what it is called."""
    prompt = invariance.salad(12, LONG)
    shutil.copytree(folder / "one", folder / "same")
    cached(server, "smol:one", prompt)
    assert load(server, "same", "same").status_code == 200
    assert cached(server, "smol:same", prompt) > 64
    write_peft(folder / "same", SHAPE, 9)
    assert load(server, "same", "same", load_inplace=True).status_code == 200
    assert cached(server, "smol:same", prompt) == 0
    assert load(server, "same", "one\0", load_inplace=True).status_code == 400
    assert cached(server, "smol:same", prompt) > 64  # it was not taken away for a request that is none
    assert unload(server, "same").status_code == 200


# ---- errors ----

def test_what_may_not_be_loaded(server, folder, tmp_path):
    outside = write_peft(tmp_path / "outside", SHAPE, 1)
    (folder / "link").symlink_to(outside)
    (folder / "inner").mkdir()
    (folder / "inner" / "adapter_config.json").write_text((outside / "adapter_config.json").read_text())
    (folder / "inner" / "adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")
    (folder / "split-00001-of-00002.gguf").write_bytes(b"GGUF")
    (folder / "split-00002-of-00002.gguf").symlink_to(outside / "adapter_model.safetensors")
    write_peft(folder / "dora", SHAPE, 1, use_dora=True)
    write_peft(folder / "narrow", {**SHAPE, "hidden": 32}, 1)
    (folder / "broken").mkdir()
    (folder / "broken" / "adapter_config.json").write_text("{")
    (folder / "broken" / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    for name, path, status, said in (
            ("bad name", "one", 400, "lora_name"), ("../x", "one", 400, "lora_name"), ("", "one", 400, "lora_name"),
            ("x" * 65, "one", 400, "lora_name"), ("smol", "one", 400, "name of a model"), ("one", "one", 400, "already"),
            ("a", "", 400, "lora_path"), ("a", "../" + folder.name + "/one", 403, "beneath"), ("a", outside, 403, "beneath"),
            ("a", "/etc/passwd", 403, "beneath"), ("a", "/dev/zero", 403, "beneath"), ("a", "link", 403, "links"),
            ("a", "inner", 403, "links"), ("a", "split-00001-of-00002.gguf", 403, "links"), ("a", "nothing", 404, "cannot be found"), ("a", "dora", 400, "DoRA"),
            ("a", "narrow", 400, "down_proj"), ("a", "broken", 400, "adapter_config.json"), ("a", ".", 403, "beneath"),
            ("a", "one\0/etc", 400, "lora_path")):
        reply = load(server, name, path)
        assert reply.status_code == status and said in reply.text, (name, path, reply.status_code, reply.text)
    assert unload(server, "nothing").status_code == 404
    assert server.post("/v1/load_lora_adapter", {"lora_name": "a"}).status_code == 400
    assert [a["name"] for a in server.model_status()["adapters"]["data"]] == ["one", "two", "three"]
    server.complete("Hi", model="smol:one", max_tokens=1)


def test_limits_keys_and_folder(new_tiny, tiny_folder):
    with new_tiny("--lora-dir", tiny_folder, "--lora-max", 2, "--lora-memory", "20K",
                  env={"TANDEM_API_KEY": "secret"}, api_key="secret") as server:
        with server.openai(api_key="wrong") as client, pytest.raises(Exception, match="401"):
            client.post("/load_lora_adapter", body={"lora_name": "a", "lora_path": "three.gguf"}, cast_to=object)
        assert load(server, "a", "three.gguf").status_code == 200
        assert load(server, "b", "one").status_code == 507
        assert load(server, "b", "three.gguf").status_code == 200
        reply = load(server, "c", "three.gguf")
        assert reply.status_code == 400 and "--lora-max" in reply.text
        assert server.model_status()["need"]["adapters"] == 20 << 10
    with new_tiny("--lora", f"one={tiny_folder / 'one'}") as server:
        for name in ("a", "one"):
            reply = load(server, name, "one", load_inplace=True)
            assert reply.status_code == 403 and "--lora-dir" in reply.text
        server.complete("Hi", model="smol:one", max_tokens=1)


@pytest.mark.parametrize("option, said", [("x", "NAME=PATH"), ("a b=one", "letters"), ("a=/nothing", "nothing")])
def test_wrong_option(tiny_path, option, said):
    with failing_server(tiny_path, "--lora", option) as (status, log):
        assert status != 0 and said in log


# ---- without a server ----

def run(model, *words):
    arguments = [str(word) for word in (TANDEM, "run", model, "--backend", BACKEND, "--threads", 2, "--kv-memory", "64M", *words)]
    return subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def test_run_answers_as_the_server_does(server, folder, tiny_path):
    path = real_model(SMOLLM) if BACKEND == "cpu" else tiny_path
    words = ["Once upon a time", "--raw", "--temperature", 0, "--max-tokens", 12, "--max-context", 1024]
    for model, lora in (("smol", []), ("smol:one", [f"one={folder / 'one'}"]), ("smol:three", [f"x={folder / 'three.gguf'}"])):
        done = run(path, *words, *[word for option in lora for word in ("--lora", option)])
        expected = server.complete("Once upon a time", model=model, temperature=0, max_tokens=12)["choices"][0]["text"]
        assert (done.returncode, done.stdout) == (0, expected + "\n"), (model, done.stderr)


@pytest.mark.parametrize("options, said", [
    (["x"], "NAME=PATH"), (["a b={}/one"], "letters"), (["a=/nothing"], "/nothing"), (["a={}/narrow"], "down_proj"),
    (["a={}/one", "b={}/two"], "one adapter, but 2")])
def test_run_with_what_is_none(tiny_path, tiny_folder, options, said):
    write_peft(tiny_folder / "narrow", {**TINY_SHAPE, "hidden": 32}, 1)
    done = run(tiny_path, "Hi", *[word for option in options for word in ("--lora", option.format(tiny_folder))])
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT) and said in done.stderr and done.stdout == ""


def test_named_adapter_that_does_not_fit(new_tiny, tmp_path):
    """The model is served; requests for the adapter hear why it is not there."""
    write_peft(tmp_path / "narrow", {**TINY_SHAPE, "hidden": 32}, 1)
    with new_tiny("--lora", f"narrow={tmp_path / 'narrow'}") as server:
        server.complete("Hi", model="smol", max_tokens=1)
        reply = server.post("/v1/completions", {"model": "smol:narrow", "prompt": "Hi", "max_tokens": 1})
        assert reply.status_code == 503 and "cannot be loaded" in reply.text


# ---- beside other parts ----

@exact
def test_journal_outlives_the_gateway(new_tiny, tiny_folder, tmp_path):
    options = ["--journal", tmp_path / "journal", *named(tiny_folder)]
    bodies = [{**request(model, 4, n=250)[1], "logprobs": 1} for model in MODELS]
    with new_tiny(*options) as server:
        alone = [server.ok("/v1/completions", body)["choices"] for body in bodies]
        ids = [server.post("/v1/completions", {**body, "background": True}).json()["id"] for body in bodies]
        server.wait_for(lambda: sum(r["generated_tokens"] for r in server.model_status()["requests"]) > 60, "tokens")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.expect_exit(-signal.SIGKILL)
    with new_tiny(*options) as server:
        def results():
            found = [server.http.get(f"/v1/requests/{id}").json() for id in ids]
            return found if all(r["status"] == "completed" for r in found) else None
        found = server.wait_for(results, "all are completed", 30)
        assert [r["result"]["choices"] for r in found] == alone
        assert [r["model"] for r in found] == MODELS
        assert not any(r["resumed_from_fingerprint"] for r in found)
    with new_tiny("--journal", tmp_path / "journal", "--lora", f"one={tiny_folder / 'two'}") as server:
        assert server.http.get(f"/v1/requests/{ids[1]}").json()["result"]["choices"] == alone[1]


@exact
def test_disk_tier_and_adopted_pages(new_tiny, tiny_folder, tmp_path):
    prompt = invariance.salad(13, 200)
    with new_tiny("--kv-disk-dir", tmp_path / "disk", *named(tiny_folder)) as server:
        assert [cached(server, model, prompt) for model in MODELS] == [0] * 4
        one = server.complete(prompt, model="smol:one", **{"max_tokens": 8, "temperature": 0, "logprobs": 1})
        server.kill_engine()  # its pages are adopted
        again = server.complete(prompt, model="smol:one", **{"max_tokens": 8, "temperature": 0, "logprobs": 1})
        assert again["choices"] == one["choices"]
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 64
        assert cached(server, "smol", prompt + " and more") > 64
    with new_tiny("--kv-disk-dir", tmp_path / "disk", "--lora", f"one={tiny_folder / 'two'}",
                  "--lora", f"other={tiny_folder / 'one'}") as server:
        other = server.complete(prompt, model="smol:other", **{"max_tokens": 8, "temperature": 0, "logprobs": 1})
        assert other["choices"] == one["choices"]  # what is on disk is found by what the adapter says
        server.complete(prompt, model="smol:one", max_tokens=1)


def test_models_on_demand(tiny_path, tiny_folder, tmp_path):
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"folder": False, "models": [
        {"name": "base", "model": str(tiny_path), "keep_alive": "1h",
         "options": {"lora": [f"one={tiny_folder / 'one'}"], "lora-dir": str(tiny_folder)}},
        {"name": "closed", "model": str(tiny_path), "options": {"lora": [f"three={tiny_folder / 'three.gguf'}"]}},
        {"name": "bare", "model": str(tiny_path)}]}))
    with Many("--models", file, "--threads", 1, "--kv-memory", "16M") as server:
        assert server.complete("Hi", model="base:one", max_tokens=2)["model"] == "base:one"
        assert server.post("/v1/completions", {"model": "bare:one", "prompt": "Hi"}).status_code == 404
        assert load(server, "two", "two", model="base").status_code == 200
        assert load(server, "two", "two", model="bare").status_code == 403
        server.ok("/v1/models/base/unload", {})
        before = server.complete("Hi", model="two", max_tokens=8, temperature=0)["choices"]  # it is loaded again, with both
        assert before == server.complete("Hi", model="base:two", max_tokens=8, temperature=0)["choices"]
        assert metric(server.metrics(), "tandem_adapters", model="base") == 2
        assert server.post("/v1/models/closed:three/unload", {}).json()["state"] == "unloaded"  # nobody has used it yet
        assert server.post("/v1/completions", {"model": "closed:three", "prompt": "Hi"}).status_code == 404


@exact
def test_batches_and_preemption(tiny_path, tiny_folder, tmp_path):
    """Rows of a batch name adapters; more sequences than the pool holds give way and come back."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "2M", "--kv-type", "f32", "--max-context", 1024,
                "--served-model-name", "smol", "--journal", tmp_path / "journal", "--reserve-output", "off", *named(tiny_folder)) as server:
        requests = [request(MODELS[i % 4], i, n=300, logprobs=None) for i in range(12)]
        alone = invariance.ask_alone(server, requests)
        before = server.stats()["preemptions"]
        invariance.assert_equal_answers(requests, alone, invariance.ask_together(server, requests))
        assert server.stats()["preemptions"] > before
        rows = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions",
                 "body": {"model": "smol:one", "prompt": "Hi", "max_tokens": 4, "temperature": 0}} for i in range(3)]
        with server.openai() as client:
            uploaded = client.files.create(file=("rows.jsonl", "\n".join(map(json.dumps, rows)).encode()), purpose="batch")
            batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/completions", completion_window="24h")
            server.wait_for(lambda: client.batches.retrieve(batch.id).status == "completed", "the batch ends", 30)
            output = client.files.content(client.batches.retrieve(batch.id).output_file_id).text
        texts = {json.loads(line)["response"]["body"]["choices"][0]["text"] for line in output.splitlines()}
        assert texts == {server.complete("Hi", model="smol:one", max_tokens=4, temperature=0)["choices"][0]["text"]}
