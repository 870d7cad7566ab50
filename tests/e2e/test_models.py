"""Models that are loaded on demand: five of them under a budget for two, what comes and goes and why, the list and its
file, and what happens when somebody or something disturbs a load."""
import json
import os
import random
import signal
import threading
import time

import ollama
import psutil
import pytest

from harness import PATIENCE, SANITIZER, Server, TANDEM, make_model, metric, tiny_config

pytestmark = pytest.mark.cpu_only("models come and go the same way on every backend")

NAMES = ["ada", "bob", "cat", "dan", "eve"]
MIB = 1 << 20
ANSWER = {"temperature": 0, "ignore_eos": True, "return_token_ids": True}
OPTIONS = ["--threads", 1, "--max-sequences", 16, "--kv-memory", "8M"]


class Many(Server):
    """Without a model on the command line."""

    def __init__(self, *options, **arguments):
        super().__init__("", *options, **arguments)
        self.arguments.remove("")

    def model(self, name):
        found = [m for m in self.status()["models"] if m["model"] == name]
        return found[0] if found else None

    def state(self, name):
        return self.model(name)["state"]

    def wait_state(self, name, state, timeout=20):
        self.wait_for(lambda: self.model(name) and self.state(name) == state, f"{name} is {state}", timeout)

    def reload(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def say(self, name, prompt="Once", n=6, **fields):
        """Token ids of an answer."""
        return self.complete(prompt, model=name, max_tokens=n, **ANSWER, **fields)["choices"][0]["token_ids"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random models whose tokens are bytes: a vocabulary of a real one takes longer to load than all else."""
    path = tmp_path_factory.mktemp("registry")
    for i, name in enumerate(NAMES):
        config = tiny_config(context=16384, n_vocab=320)
        config["seed"] = 100 + i
        make_model(config, path / f"{name}.gguf")
        (path / f"{name}.gguf.json").unlink()
    return path


@pytest.fixture(scope="module")
def need(folder):
    """Bytes that one of them needs."""
    with Many(*OPTIONS, env={"TANDEM_MODELS": str(folder)}) as server:
        server.ok("/v1/models/ada/load", {})
        return server.model("ada")["need"]["total"]


@pytest.fixture(scope="module")
def alone(folder):
    """What each model says, while nothing else is loaded and nothing comes or goes."""
    answers = {}
    with Many(*OPTIONS, env={"TANDEM_MODELS": str(folder)}) as server:
        for name in NAMES:
            for i in range(4):
                answers[name, i] = server.say(name, prompt_of(i), n=LENGTHS[i])
    return answers


LENGTHS = [3, 6, 12, 24]
LONG = 8000  # tokens of an answer that takes a second


def prompt_of(i):
    return "Tell me more about it. " * (i + 1)


@pytest.fixture
def many(folder, need):
    def start(*options, models=2.5, **arguments):
        return Many(*OPTIONS, "--memory", int(models * need), *options,
                    env={"TANDEM_MODELS": str(folder), **arguments.pop("env", {})}, **arguments)
    return start


@pytest.fixture
def listed(folder, need, tmp_path):
    """Servers of a file of models; nothing else is served."""
    file = tmp_path / "models.json"

    def write(models, **fields):
        file.write_text(json.dumps({"folder": False, "models": models, **fields}))

    def start(models, *options, budget=2.5, **fields):
        write(models, **fields)
        return Many(*OPTIONS, "--memory", int(budget * need), "--models", file, *options)
    start.write, start.file = write, file
    return start


def entry(folder, name, **fields):
    return {"name": name, "model": str(folder / f"{name}.gguf"), **fields}


def test_defaults_of_sampling_of_a_model(folder, listed):
    """They hold for what a request does not say, whatever API it comes by; what it says goes before."""
    cold = {**entry(folder, "ada", options={"temperature": 0, "top-k": 7}), "name": "cold"}
    hot = {**entry(folder, "ada", options={"temperature": 2}), "name": "hot"}
    with listed([cold, hot]) as server:
        def said(model, **fields):
            return {tuple(server.complete("Once", model=model, max_tokens=8, seed=seed, ignore_eos=True, return_token_ids=True,
                                          **fields)["choices"][0]["token_ids"]) for seed in (1, 2, 3)}

        def message(model, **fields):
            return {server.ok("/v1/messages", {"model": model, "max_tokens": 8, "seed": seed, "ignore_eos": True, **fields,
                                               "messages": [{"role": "user", "content": "x"}]})["content"][0]["text"] for seed in (1, 2)}

        def chat(model, **options):
            return {server.ok("/api/generate", {"model": model, "prompt": "Once", "stream": False, "raw": True,
                                                "options": {"num_predict": 8, "seed": seed, **options}})["response"] for seed in (1, 2, 3)}

        assert len(said("cold")) == 1 and len(said("hot")) == 3
        assert len(said("cold", temperature=2, top_k=0)) == 3 and said("hot", temperature=0) == said("cold")
        assert said("cold", temperature=2, top_k=1) == said("cold")
        assert len(message("cold")) == 1 and len(message("hot")) == 2
        assert len(chat("cold")) == 1 and len(chat("hot")) > 1 and chat("hot", temperature=0) == chat("cold")


def test_checks_of_sampling_look_at_the_model(folder, listed):
    """What does not go with a penalty is refused where the model's own options have one, and only there."""
    free = {**entry(folder, "ada", options={"repetition-penalty": 1}), "name": "free"}
    bound = {**entry(folder, "ada", options={"repetition-penalty": 1.2}), "name": "bound"}
    with listed([free, bound], "--repetition-penalty", 1.1) as server:
        def ask(model, **options):
            return server.post("/api/generate", {"model": model, "prompt": "Once", "stream": False, "raw": True,
                                                 "options": {"num_predict": 1, "repeat_last_n": 64, **options}})

        assert ask("free").status_code == 200 and ask("bound", repeat_penalty=1).status_code == 200
        for reply in (ask("bound"), ask("free", repeat_penalty=1.3)):
            assert reply.status_code == 400 and "options.repeat_last_n" in reply.json()["error"]


def test_rows_of_batches_wait_for_their_model_but_not_for_ever(many, tmp_path):
    """Requests for one model never cease, and there is room for no other. Rows for it come first; those for another one
    have it loaded after their patience, one share at a time, and no request is lost."""
    with many("--journal", tmp_path / "journal", "--batch-patience-ms", 1500, models=1.5) as server:
        server.say("ada")
        over, answers = threading.Event(), []

        def ask():
            while not over.is_set():
                answers.append(len(server.say("ada", n=400)))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            client = server.anthropic()
            rows = [{"custom_id": f"{name}-{i}", "params": {"model": name, "max_tokens": 20, "messages": [{"role": "user", "content": "x"}]}}
                    for i in range(4) for name in ("bob", "ada")]
            began = time.monotonic()
            batch = client.messages.batches.create(requests=rows)
            server.wait_for(lambda: server.status()["batches"]["rows_completed"] >= 4, "rows of ada are done")
            assert server.status()["memory"]["loads"] == 1  # nothing else was loaded for them
            server.wait_for(lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended", "bob's too", 60)
            assert time.monotonic() - began >= 1.5 and answers
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert {r.result.type for r in client.messages.batches.results(batch.id)} == {"succeeded"}
        assert set(answers) == {400} and server.status()["memory"]["evictions"] >= 1


class MemoryWatch(threading.Thread):
    """The most that all engines of a server had at one time: memory that is theirs, not pages of files."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.process, self.most, self.planned, self.server, self.over = psutil.Process(server.process.pid), 0, 0, server, threading.Event()

    @staticmethod
    def taken(pid):
        try:
            with open(f"/proc/{pid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            return sum(int(fields[k].split()[0]) << 10 for k in ("RssAnon", "RssShmem"))
        except (OSError, KeyError):  # it has left
            return 0

    def run(self):
        with self.server.new_http() as http:
            while not self.over.is_set():
                self.most = max(self.most, sum(self.taken(p.pid) for p in self.process.children()))
                self.planned = max(self.planned, http.get("/v1/status").json()["memory"]["models_used"])
                time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def ask_stream(server, name, i, http):
    """The token ids of a stream, or the error that ended it."""
    ids, error = [], None
    body = {"model": name, "prompt": prompt_of(i), "max_tokens": LENGTHS[i], **ANSWER}
    for kind, value in server.stream("/v1/completions", body, http):
        if kind == "data":
            error = value.get("error", error)
            ids += [token for c in value.get("choices", []) for token in c.get("token_ids") or []]
    return ids if error is None else error


def ask_all(server, questions, n_threads=12):
    """Each question's answer, asked by so many clients in this order."""
    answers, lock, left = [None] * len(questions), threading.Lock(), list(enumerate(questions))

    def client():
        with server.new_http() as http:
            while True:
                with lock:
                    if not left:
                        return
                    at, (name, i) = left.pop(0)
                try:
                    answers[at] = ask_stream(server, name, i, http)
                except Exception as e:  # noqa: BLE001  (it is the answer)
                    answers[at] = e
    threads = [threading.Thread(target=client, daemon=True) for _ in range(n_threads)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


# ---- many under a budget for two ----

def test_five_models_under_a_budget_for_two(many, need, alone):
    rng = random.Random(5)
    n = 300 if not SANITIZER else 100
    questions = [(rng.choice(NAMES), rng.randrange(4)) for _ in range(n)]
    with many() as server:
        with MemoryWatch(server) as watch:
            answers = ask_all(server, questions)
        wrong = [(q, a) for q, a in zip(questions, answers) if a != alone[q]]
        assert not wrong, f"{len(wrong)} of {n}: {wrong[:3]}"
        memory, figures = server.status()["memory"], server.metrics()
        assert memory["evictions"] >= 3 and memory["loads"] >= memory["evictions"]
        assert 0 < watch.planned <= memory["models_budget"] == int(2.5 * need)
        if not SANITIZER:
            assert 4 * MIB < watch.most <= memory["models_budget"]
        assert figures["tandem_model_unloads_total", frozenset([("reason", "evicted")])] == memory["evictions"]
        assert figures["tandem_models_memory_used_bytes", frozenset()] == memory["models_used"]
        assert sum(figures["tandem_requests_finished_total", frozenset([("model", m), ("reason", "length")])] for m in NAMES) == n


def test_long_answers_are_not_cut_off(many, alone):
    """A model that others wait for finishes what runs, and comes back for what came later."""
    with many(models=1.5) as server:
        long = {}

        def run(name):
            long[name] = server.say(name, "A long story.", n=LONG)
        threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in NAMES[:3]]
        for t in threads:
            t.start()
            time.sleep(0.02)
        short = ask_all(server, [(name, 1) for name in NAMES] * 4)
        for t in threads:
            t.join()
        assert short == [alone[name, 1] for name in NAMES] * 4
        assert [len(ids) for ids in long.values()] == [LONG] * 3 and len({tuple(ids) for ids in long.values()}) == 3
        assert long[NAMES[0]] == server.say(NAMES[0], "A long story.", n=LONG)


# ---- what is disturbed ----

def test_loads_unloads_and_cancels_race(many, alone):
    rng = random.Random(7)
    with many() as server:
        over = threading.Event()

        def disturb():
            with server.new_http() as http:
                while not over.is_set():
                    name = rng.choice(NAMES)
                    if rng.random() < 0.5:
                        http.post(f"/v1/models/{name}/unload", json={"force": rng.random() < 0.5, "wait": False})
                    else:
                        http.post(f"/v1/models/{name}/load", json={"wait": False})
                    time.sleep(0.05)

        def leave():
            while not over.is_set():
                with server.new_http() as http:
                    body = {"model": rng.choice(NAMES), "prompt": "Once", "max_tokens": 2000, "stream": True}
                    with http.stream("POST", "/v1/completions", json=body) as reply:
                        if rng.random() < 0.5:
                            next(reply.iter_bytes(), None)
        disturbers = [threading.Thread(target=f, daemon=True) for f in (disturb, leave, leave)]
        for t in disturbers:
            t.start()
        questions = [(rng.choice(NAMES), rng.randrange(4)) for _ in range(60)]
        answers = ask_all(server, questions, 6)
        over.set()
        for t in disturbers:
            t.join()
        wrong = [(q, a) for q, a in zip(questions, answers) if a != alone[q]]
        assert not wrong, wrong[:3]
        server.wait_for(lambda: not any(m.get("requests") for m in server.status()["models"]), "all requests end")


def test_engine_killed_while_it_loads_and_while_it_works(many, alone):
    with many("--restart-limit", 64) as server:
        answers = []
        asking = threading.Thread(target=lambda: answers.extend(ask_all(server, [("ada", i % 4) for i in range(24)], 4)), daemon=True)
        asking.start()
        killed = 0
        while asking.is_alive() and killed < 4:
            engine = server.model("ada").get("engine", {})
            if engine.get("pid"):
                os.kill(engine["pid"], signal.SIGKILL)
                killed += 1
                time.sleep(0.15)
            time.sleep(0.005)
        asking.join()
        assert answers == [alone["ada", i % 4] for i in range(24)] and killed


def test_cancel_while_it_waits(many):
    with many(models=1.5) as server:
        server.ok("/v1/models/ada/load", {})
        holding = threading.Thread(target=server.say, args=("ada", "Once", LONG), daemon=True)
        holding.start()
        server.wait_for(lambda: server.model("ada")["requests"], "it runs")
        with server.new_http() as http:
            with http.stream("POST", "/v1/completions", json={"model": "bob", "prompt": "x", "max_tokens": 4, "stream": True}):
                server.wait_for(lambda: server.model("bob")["waiting_for_load"] == 1, "bob is waited for")
        server.wait_for(lambda: server.model("bob")["waiting_for_load"] == 0, "nobody waits for bob")
        holding.join()
        time.sleep(0.3)
        assert server.state("ada") == "ready" and server.state("bob") == "unloaded"  # nor does anybody make room for bob


def test_failed_load_is_an_error_of_its_requests_alone(listed, folder, tmp_path, alone):
    broken = tmp_path / "broken.gguf"
    whole = (folder / "cat.gguf").read_bytes()
    broken.write_bytes(whole[:len(whole) - 4096])  # its tensors end beyond its end
    unknown = tmp_path / "unknown.gguf"
    unknown.write_bytes(whole.replace(b"llama", b"lamma"))
    models = [entry(folder, "ada"), {"name": "broken", "model": str(broken)}, {"name": "unknown", "model": str(unknown)}]
    with listed(models) as server:
        for name in ("broken", "unknown"):
            body = {"model": name, "prompt": "x", "max_tokens": 1}
            for stream in (False, True):
                reply = server.post("/v1/completions", {**body, "stream": stream})
                assert reply.status_code == 503, reply.text
                assert name in reply.json()["error"]["message"]
            assert server.post(f"/v1/models/{name}/load", {}).status_code == 503
            assert server.state(name) == "failed" and server.model(name)["failure"]
        anthropic = server.http.post("/v1/messages", json={"model": "broken", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
        assert anthropic.status_code == 503 and anthropic.json()["type"] == "error"
        assert server.say("ada", prompt_of(1)) == alone["ada", 1]
        broken.write_bytes(whole)
        assert server.say("broken", prompt_of(1)) == alone["cat", 1]


def test_what_can_never_fit_is_refused(many, need):
    with many(models=0.5) as server:
        reply = server.post("/v1/completions", {"model": "ada", "prompt": "x"})
        assert reply.status_code == 507
        message = reply.json()["error"]["message"]
        assert f"{need // MIB} MiB" in message and f"{need // 2 // MIB} MiB" in message
        assert server.post("/v1/models/ada/load", {}).status_code == 507


# ---- coming and going ----

def test_keep_alive_pin_and_preload(listed, folder):
    models = [entry(folder, "ada", pin=True), entry(folder, "bob", preload=True, keep_alive="300ms"), entry(folder, "cat", keep_alive=0)]
    with listed(models, budget=3.5, keep_alive="1h") as server:  # and is ready
        assert server.state("ada") == "ready" and server.state("bob") in ("ready", "unloading", "unloaded")
        server.wait_state("bob", "unloaded")
        assert server.http.get("/ready").status_code == 200
        server.say("cat")
        server.wait_state("cat", "unloaded")
        assert server.state("ada") == "ready" and server.model("ada")["pinned"]
        assert server.metrics()["tandem_model_unloads_total", frozenset([("reason", "idle")])] == 2


def test_load_and_unload(many):
    with many() as server:
        assert server.ok("/v1/models/ada/load", {}) == {"id": "ada", "object": "model", "state": "ready"}
        assert server.http.post("/v1/models/ada/load").status_code == 200  # no body
        assert server.post("/v1/models/bob/load", {"wait": False}).status_code == 202
        server.wait_state("bob", "ready")
        answer = []
        run = threading.Thread(target=lambda: answer.append(server.say("ada", "A long story.", n=LONG)), daemon=True)
        run.start()
        server.wait_for(lambda: server.model("ada")["requests"] and server.model("ada")["requests"][0]["generated_tokens"] > 20, "it runs")
        reply = server.post("/v1/models/ada/unload", {"force": True})
        assert reply.status_code == 200
        run.join()  # it has gone on in the next engine
        assert server.ok("/v1/models/ada/unload", {})["state"] == "unloaded"
        assert answer == [server.say("ada", "A long story.", n=LONG)]
        assert server.post("/v1/models/nobody/load", {}).status_code == 404
        assert server.post("/v1/models/ada/unload", {"force": 1}).status_code == 400
        assert {m["id"]: m["state"] for m in server.http.get("/v1/models").json()["data"]}.keys() == set(NAMES)


def test_a_load_does_not_keep_the_server(many):
    with many("--fault", "slow-start:ms=60000") as server:
        answer = []
        with server.new_http() as http:
            asking = threading.Thread(target=lambda: answer.append(http.post("/v1/models/ada/load")), daemon=True)
            asking.start()
            server.wait_state("ada", "loading")
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 15
            asking.join()
        assert answer[0].status_code == 503 and "shutting down" in answer[0].json()["error"]["message"]


def test_ollama_says_how_long(many):
    with many() as server:
        api = ollama.Client(host=server.url)
        assert api.generate(model="ada", keep_alive="10m").done_reason == "load"
        assert [m.model for m in api.ps().models] == ["ada:latest"]
        left = api.ps().models[0].expires_at.timestamp() - time.time()
        assert 500 < left <= 601
        api.chat(model="bob", messages=[{"role": "user", "content": "x"}], keep_alive=0, options={"num_predict": 2})
        server.wait_state("bob", "unloaded")
        assert api.generate(model="ada", keep_alive=0).done_reason == "unload"
        assert server.state("ada") == "unloaded" and not api.ps().models
        with pytest.raises(ollama.ResponseError, match="keep_alive"):
            api.generate(model="ada", keep_alive="soon")
        assert {m.model for m in api.list().models} == {f"{n}:latest" for n in NAMES}


def test_streams_hear_what_they_wait_for(many):
    with many("--keepalive-ms", 100, models=1.5) as server:
        server.ok("/v1/models/ada/load", {})
        holding = threading.Thread(target=server.say, args=("ada", "Once", LONG), daemon=True)
        holding.start()
        server.wait_for(lambda: server.model("ada")["requests"], "it runs")
        events = server.stream_all("/v1/completions", {"model": "bob", "prompt": "x", "max_tokens": 2})
        holding.join()
        comments = [text for kind, text in events if kind == "comment"]
        assert any("'bob'" in text for text in comments)


def test_one_model_comes_back_when_it_is_unloaded(folder):
    with Server(folder / "ada.gguf", *OPTIONS) as server:
        before = server.complete("Once", max_tokens=4, temperature=0)["choices"][0]["text"]
        assert server.ok("/v1/models/ada/unload", {})["state"] == "unloaded"
        assert server.http.get("/ready").status_code == 200 and server.model_status()["engine"]["pid"] == 0
        assert server.complete("Once", max_tokens=4, temperature=0)["choices"][0]["text"] == before


# ---- the list ----

def test_sighup_brings_changes_and_removes(listed, folder, alone):
    models = [entry(folder, "ada"), entry(folder, "bob", names=["b-*"])]
    with listed(models) as server:
        assert server.say("ada", prompt_of(1)) == alone["ada", 1]
        pid = server.model("ada")["engine"]["pid"]
        running = []
        thread = threading.Thread(target=lambda: running.append(server.say("b-one", "A long story.", n=LONG)), daemon=True)
        thread.start()
        server.wait_for(lambda: server.model("bob").get("requests"), "bob answers")
        listed.write([entry(folder, "ada"), entry(folder, "bob", options={"max-context": 64}), entry(folder, "cat")])
        server.reload()
        server.wait_for(lambda: server.model("cat"), "cat is in the list")
        thread.join()
        assert running and server.say("cat", prompt_of(1)) == alone["cat", 1]
        reply = server.post("/v1/completions", {"model": "bob", "prompt": prompt_of(3) * 8, "max_tokens": 4})
        assert reply.status_code == 400 and "64 tokens" in reply.text
        assert server.model("ada")["engine"]["pid"] in (0, pid)  # the same, or it had to give way

        listed.file.write_text('{"models": [\n{"name": "x", "model": "y", "options": {"max-context": "many"}}]}')
        server.reload()
        server.wait_for(lambda: "models[0].options.max-context" in server.log(), "the fault is in the log")
        assert "line 2" in server.log() and server.model("cat")

        listed.write([entry(folder, "cat")])
        server.reload()
        server.wait_for(lambda: [m["model"] for m in server.status()["models"]] == ["cat"], "only cat is left")
        assert server.post("/v1/completions", {"model": "ada", "prompt": "x"}).status_code == 404


def test_what_the_file_may_not_say(folder, tmp_path):
    file = tmp_path / "models.json"
    for text, says in (('{"models": [{"name": "a"}]}', "'model' is missing"),
                       ('{"models": [{"model": "nothing-of-the-kind"}]}', "nothing-of-the-kind"),
                       ('{\n"memory": "lots"}', "line 2, 'memory'"),
                       ('{"models": [{"model": "x", "options": {"port": 1}}]}', "models[0].options.port")):
        file.write_text(text)
        server = Many("--models", file, env={"TANDEM_MODELS": str(folder)})
        with pytest.raises(AssertionError, match="ended with"):
            server.__enter__()
        assert says in server.log()
    for options in (("--served-model-name", "x"), ("--keep-alive", "soon")):
        with pytest.raises(AssertionError, match="ended with"):
            Many(*options, env={"TANDEM_MODELS": str(folder)}).__enter__()


def test_named_on_the_command_line(folder, tmp_path):
    with Server(folder / "ada.gguf", folder / "bob.gguf", *OPTIONS, env={"TANDEM_MODELS": str(tmp_path)}) as server:
        assert [m["id"] for m in server.http.get("/v1/models").json()["data"]] == ["ada", "bob"]
        assert server.complete("x", max_tokens=1)["model"] == "ada"


# ---- kept requests ----

def test_background_requests_load_their_models(many, tmp_path, alone):
    with many("--journal", tmp_path, models=1.5) as server:
        ids = {name: server.post("/v1/completions", {"model": name, "prompt": prompt_of(1), "max_tokens": LENGTHS[1],
                                                     "background": True, **ANSWER}).json()["id"] for name in NAMES}
        for name, id in ids.items():
            done = server.wait_for(lambda: (r := server.http.get(f"/v1/requests/{id}").json())["status"] == "completed" and r, name, 30)
            assert done["result"]["choices"][0]["token_ids"] == alone[name, 1]
        assert server.status()["memory"]["evictions"] >= 3


def batch_of(client, bodies):
    """A batch of completions."""
    rows = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": body} for i, body in enumerate(bodies)]
    file = client.files.create(file=("rows", "\n".join(map(json.dumps, rows)).encode()), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")


def batch_answers(server, client, batch):
    """By row: token ids, or a status."""
    batch = server.wait_for(lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b, "the batch ends", 30)
    found = {}
    for file in filter(None, (batch.output_file_id, batch.error_file_id)):
        for line in client.files.content(file).text.splitlines():
            row = json.loads(line)
            status, body = row["response"]["status_code"], row["response"]["body"]
            found[int(row["custom_id"])] = body["choices"][0]["token_ids"] if status == 200 else status
    return found


def test_rows_of_batches_have_their_models_loaded(listed, folder, alone, tmp_path):
    """Models that nobody has asked for before; no request is in their way, and they go when they leave the list. Rows of
    one that cannot be read do not hold up the others."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and no more")
    with listed([*(entry(folder, name) for name in NAMES[:3]), {"name": "broken", "model": str(broken)}],
                "--journal", tmp_path / "journal", "--batch-max-running", 1, budget=1.5) as server:
        client = server.openai()
        stuck = batch_of(client, [{"model": name, "prompt": "x", "max_tokens": 1} for name in ("broken", "bob")])
        server.wait_for(lambda: client.batches.retrieve(stuck.id).request_counts.completed, "the other row is done")
        client.batches.cancel(stuck.id)
        asked = [(name, i) for i in range(4) for name in ("bob", "cat")]
        bodies = [{"model": name, "prompt": prompt_of(i), "max_tokens": LENGTHS[i], **ANSWER} for name, i in asked]
        answers = batch_answers(server, client, batch_of(client, bodies + [{"model": "nobody", "prompt": "x"}]))
        assert answers == {**{k: alone[one] for k, one in enumerate(asked)}, len(asked): 404}
        assert server.state("ada") == "unloaded"

        def given_up():
            return metric(server.metrics(), "tandem_batch_rows_total", outcome="given_up")

        before = given_up()
        speaker = threading.Thread(target=lambda: server.say("ada", n=LONG))
        speaker.start()
        server.wait_for(lambda: server.model("ada").get("requests"), "a request runs")
        batch = batch_of(client, bodies[:1])
        server.wait_for(lambda: given_up() > before or not speaker.is_alive(), "its row waits")
        assert server.state("ada") == "ready" or not speaker.is_alive()
        speaker.join()
        assert batch_answers(server, client, batch) == {0: alone["bob", 0]}
        listed.write([entry(folder, "ada")])
        server.reload()
        for name in ("bob", "cat"):
            server.wait_for(lambda: f"model is gone model={name}" in server.log(), f"{name} is gone")
