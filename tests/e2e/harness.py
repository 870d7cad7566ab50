"""What the end-to-end tests share: servers as child processes, models, streams, metrics.

The program under test is $TANDEM (default build/tandem); $TANDEM_BUILD is the build folder with the test tools; real
models lie in $TANDEM_MODELS or the cache folder. A missing model skips the tests that need it, except with CI=true.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time

import anthropic
import httpx
import openai
import psutil
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TANDEM = pathlib.Path(os.environ.get("TANDEM", ROOT / "build" / "tandem")).absolute()
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD", TANDEM.parent)).absolute()

# With TANDEM_TEST_BACKEND=mlx every server runs on that backend; what then lives on the real model by default runs on
# the small random one, since MLX on a plain CPU is there to be correct.
BACKEND = os.environ.get("TANDEM_TEST_BACKEND", "cpu")

SMOLLM = "smollm2-135m-instruct-q4_1.gguf"
QWEN = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def sanitizer():
    cache = BUILD / "CMakeCache.txt"
    found = re.search(r"^TANDEM_SANITIZE:STRING=(.*)$", cache.read_text() if cache.exists() else "", re.MULTILINE)
    return found.group(1) if found else ""


SANITIZER = sanitizer()
PATIENCE = 8 if SANITIZER else 4 if BACKEND != "cpu" else 1  # factor of every time-out


# ---- models ----

def models_folder():
    if os.environ.get("TANDEM_MODELS"):
        return pathlib.Path(os.environ["TANDEM_MODELS"])
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "tandem" / "models"


def missing(what):
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing", pytrace=False)
    pytest.skip(f"skip: {what} is missing")


def real_model(name):
    path = models_folder() / name
    if not path.exists():
        missing(f"the model {path}")
    return path


def make_model(config, out, tokenizer_from=None):
    """A GGUF file of random weights; config as tests/support/random_model.h describes it (dict or path)."""
    tool = BUILD / "make_random_model"
    if not tool.exists():
        missing(f"{tool} (build all targets)")
    if isinstance(config, dict):
        path = pathlib.Path(f"{out}.json")
        path.write_text(json.dumps(config))
        config = path
    tokenizer = ["--tokenizer-from", str(tokenizer_from)] if tokenizer_from else []
    subprocess.run([tool, *tokenizer, config, out], check=True)
    return pathlib.Path(out)


def make_certificate(cert, key, *more):
    """A self-signed one for localhost and 127.0.0.1; more: days, and the key's passphrase."""
    tool = BUILD / "make_certificate"
    if not tool.exists():
        missing(f"{tool} (build all targets)")
    subprocess.run([tool, "localhost", cert, key, *map(str, more)], check=True)


def tiny_config(context=4096, n_vocab=49152):
    """Two Llama layers; logits of moderate size, so that sampling has something to choose from."""
    def tensor(name, *shape, std=0.2, offset=0.0):
        return {"name": name, "shape": list(shape), "std": std, "offset": offset}

    metadata = {
        "general.architecture": ["str", "llama"], "llama.block_count": ["u32", 2],
        "llama.context_length": ["u32", context], "llama.embedding_length": ["u32", 64],
        "llama.feed_forward_length": ["u32", 96], "llama.attention.head_count": ["u32", 4],
        "llama.attention.head_count_kv": ["u32", 2], "llama.attention.layer_norm_rms_epsilon": ["f32", 1e-5],
        "llama.rope.freq_base": ["f32", 10000.0], "llama.vocab_size": ["u32", n_vocab],
    }
    tensors = [tensor("token_embd.weight", n_vocab, 64, std=0.4), tensor("output_norm.weight", 64, offset=1.0)]
    for i in range(2):
        tensors += [tensor(f"blk.{i}.{name}.weight", *shape, offset=offset) for name, shape, offset in (
            ("attn_norm", (64,), 1.0), ("attn_q", (64, 64), 0.0), ("attn_k", (32, 64), 0.0), ("attn_v", (32, 64), 0.0),
            ("attn_output", (64, 64), 0.0), ("ffn_norm", (64,), 1.0), ("ffn_gate", (96, 64), 0.0),
            ("ffn_up", (96, 64), 0.0), ("ffn_down", (64, 96), 0.0))]
    return {"seed": 5, "vocab_size": n_vocab, "metadata": metadata, "tensors": tensors}


# ---- servers ----

def environment(more=None):
    """Sanitizers look for leaks from a process that they start, which an engine in its sandbox may not."""
    return {**os.environ, **({"TANDEM_SANDBOX": "off"} if SANITIZER else {}), **(more or {})}


class Server:
    """`tandem serve` with a log kept for failures. Use it in a with statement: leaving it is a SIGTERM and has to end
    with status 0, unless the body says `server.expect_exit(...)` before. Raw requests may call it by the host "x"."""

    def __init__(self, model, *options, env=None, listen=None, ready_timeout=60, api_key=None):
        self.arguments = [str(TANDEM), "serve", str(model), *(["--listen", listen] if listen else ["--port", "0"]),
                          "--backend", BACKEND, "--allowed-host", "x", *map(str, options)]
        self.api_key = api_key  # what its clients send
        self.environment = environment(env)
        self.listen = listen
        self.ready_timeout = ready_timeout * PATIENCE
        self.process = self.port = self.http = None
        self.expected_status = 0

    def __enter__(self):
        self.log_file = tempfile.NamedTemporaryFile(mode="w+", prefix="tandem-", suffix=".log")
        self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=self.log_file,
                                        stderr=self.log_file, env=self.environment)
        try:
            self._wait_for_port()
            if not self.listen:
                self.http = self.new_http()
                self.wait_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, kind, value, traceback):
        if self.http:
            self.http.close()
        status = self.stop()
        log = self.log()
        self.log_file.close()
        if kind is None and self.expected_status is not None:
            assert status == self.expected_status, f"the server ended with {status}:\n{log[-4000:]}"

    def expect_exit(self, status):
        self.expected_status = status

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=45 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log()[-4000:]}") from None

    def log(self):
        with open(self.log_file.name, errors="replace") as file:
            return file.read()

    def _wait_for_port(self):
        deadline = time.monotonic() + 20 * PATIENCE
        while time.monotonic() < deadline:
            found = re.search(r'listening[" ].*?(?:port"?[=:]"?(\d+)|unix:)', self.log())
            if found:
                self.port = int(found.group(1) or 0)
                return
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            time.sleep(0.01)
        raise AssertionError(f"the server does not listen:\n{self.log()[-4000:]}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def new_http(self, timeout=60):
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return httpx.Client(base_url=self.url, timeout=timeout * PATIENCE, limits=limits, headers=headers)

    def openai(self, **options):
        options = {"api_key": self.api_key or "unused", "max_retries": 0, "timeout": 60 * PATIENCE, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def openai_async(self):
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=60 * PATIENCE)

    def anthropic(self, **options):
        options = {"api_key": self.api_key or "unused", "max_retries": 0, "timeout": 60 * PATIENCE, **options}
        return anthropic.Anthropic(base_url=self.url, **options)

    def anthropic_async(self):
        return anthropic.AsyncAnthropic(base_url=self.url, api_key="unused", max_retries=0, timeout=60 * PATIENCE)

    def wait_ready(self, timeout=None):
        deadline = time.monotonic() + (timeout * PATIENCE if timeout else self.ready_timeout)
        reason = "nothing"
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                reply = self.http.get("/ready")
                if reply.status_code == 200:
                    return
                reason = reply.text
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready ({reason}):\n{self.log()[-4000:]}")

    # -- requests --

    def post(self, path, body, **options):
        return self.http.post(path, json=body, **options)

    def ok(self, path, body):
        """The JSON of a request that has to succeed."""
        reply = self.post(path, body)
        assert reply.status_code == 200, f"{path} {json.dumps(body)[:500]}: {reply.status_code} {reply.text[:1000]}"
        return reply.json()

    def chat(self, content="Say hello.", **fields):
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        return self.ok("/v1/chat/completions", {"messages": messages, **fields})

    def complete(self, prompt="Once upon a time", **fields):
        return self.ok("/v1/completions", {"prompt": prompt, **fields})

    def tokens(self, text, **fields):
        return self.ok("/tokenize", {"content": text, **fields})["tokens"]

    def stream(self, path, body, http=None):
        """Events of a stream, parsed: ("data", object), ("comment", text), ("done", None)."""
        with (http or self.http).stream("POST", path, json={**body, "stream": True}) as reply:
            if reply.status_code != 200:
                reply.read()
                raise AssertionError(f"{path}: {reply.status_code} {reply.text[:1000]}")
            assert reply.headers["content-type"].startswith("text/event-stream")
            yield from parse_events(reply.iter_bytes())

    def stream_all(self, path, body):
        return list(self.stream(path, body))

    # -- what it says of itself --

    def status(self):
        reply = self.http.get("/v1/status")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def model_status(self):
        return self.status()["models"][0]

    def engine(self):
        return self.model_status()["engine"]

    def stats(self):
        return self.engine()["stats"]

    def metrics(self):
        return parse_metrics(self.http.get("/metrics").text)

    def wait_for(self, condition, what, timeout=10):
        """Polls until condition() is true; returns its value."""
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout * PATIENCE} s; status {json.dumps(self.status())[:2000]}")
            time.sleep(0.01)

    def wait_idle(self, timeout=10):
        """Until no request runs and no page is referenced, as the engine's next figures say."""
        def idle():
            stats = self.stats()
            return not self.model_status()["requests"] and not (
                stats["running"] or stats["waiting"] or stats["pages_referenced"])
        self.wait_for(idle, "pages and sequences are released", timeout)

    def kill_engine(self):
        """kill -9, and what comes after it: a new engine that is ready."""
        pid = self.engine()["pid"]
        os.kill(pid, signal.SIGKILL)
        self.wait_for(lambda: self.engine()["pid"] not in (0, pid) and self.model_status()["state"] == "ready",
                      "a new engine", 60)

    def descriptors(self):
        """Open descriptors of the gateway and of the engine."""
        return self.status()["gateway_descriptors"], psutil.Process(self.engine()["pid"]).num_fds()

    def resident(self):
        """Resident bytes of the gateway and of the engine, without the weights' file pages."""
        def of(pid):
            info = psutil.Process(pid).memory_full_info() if SANITIZER else psutil.Process(pid).memory_info()
            return info.rss - getattr(info, "shared", 0)
        return of(self.process.pid), of(self.engine()["pid"])

    def resident_at_rest(self):
        """The same, once a new server has made what it makes by itself (the vocabulary of masks)."""
        def at_rest():
            before = self.resident()
            time.sleep(0.6)
            after = self.resident()
            return after if abs(sum(after) - sum(before)) < 1 << 18 else None
        return self.wait_for(at_rest, "memory stays as it is", 20)


class SecureServer(Server):
    """One that speaks TLS, with a certificate of its own in that folder."""

    def __init__(self, model, folder, *options, **arguments):
        self.cert, self.key = pathlib.Path(folder) / "cert.pem", pathlib.Path(folder) / "key.pem"
        make_certificate(self.cert, self.key)
        super().__init__(model, "--tls-cert", self.cert, "--tls-key", self.key, *options, **arguments)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def context(self):
        return ssl.create_default_context(cafile=str(self.cert))

    def new_http(self, timeout=60):
        return httpx.Client(base_url=self.url, timeout=timeout * PATIENCE, verify=self.context())


class LoadingServer(Server):
    """One that is used before its model is loaded: nobody waits for it."""

    def wait_ready(self, timeout=None):
        pass


@contextlib.contextmanager
def failing_server(model, *options):
    """A server that is expected to leave by itself: yields (exit status, what it wrote)."""
    done = subprocess.run([TANDEM, "serve", model, "--port", "0", *map(str, options)], stdin=subprocess.DEVNULL,
                          env=environment(), capture_output=True, text=True, timeout=60 * PATIENCE)
    yield done.returncode, done.stdout + done.stderr


# ---- streams ----

def parse_events(pieces):
    """Server-sent events out of bytes, strictly: UTF-8, JSON, one data line per event, an empty line after each."""
    rest = b""
    for piece in pieces:
        rest += piece
        while b"\n\n" in rest:
            event, rest = rest.split(b"\n\n", 1)
            text = event.decode("utf-8")
            if text.startswith(":"):
                yield "comment", text[1:].strip()
                continue
            assert text.startswith("data: ") and "\n" not in text, f"not an event: {text!r}"
            payload = text[len("data: "):]
            if payload == "[DONE]":
                yield "done", None
            else:
                yield "data", json.loads(payload)
    assert rest == b"", f"the stream ends inside an event: {rest!r}"


def parse_named_events(pieces):
    """(name, object) of a stream whose events are named, strictly; a place ("id: 17") may follow."""
    rest = b""
    for piece in pieces:
        rest += piece
        while b"\n\n" in rest:
            event, rest = rest.split(b"\n\n", 1)
            found = re.fullmatch(r"event: ([a-z_]+)\ndata: ([^\n]+)(\nid: [0-9,.]+)?", event.decode("utf-8"))
            assert found, f"not an event: {event!r}"
            yield found.group(1), json.loads(found.group(2))
    assert rest == b"", f"the stream ends inside an event: {rest!r}"


def chunks(events):
    return [value for kind, value in events if kind == "data"]


def chunk_text(chunk):
    """The text of all choices of a chunk, whatever the API."""
    text = ""
    for choice in chunk.get("choices", []):
        text += choice["delta"].get("content") or "" if "delta" in choice else choice["text"]
    return text


def stream_text(events):
    return "".join(chunk_text(c) for c in chunks(events) if "error" not in c)


def reply_text(reply, index=0):
    choice = reply["choices"][index]
    return choice["message"]["content"] if "message" in choice else choice["text"]


# ---- metrics ----

def parse_metrics(text):
    """{(name, frozenset of labels): value}; fails on what Prometheus would not read."""
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} has two TYPE lines"
            types[name] = kind
            continue
        if line.startswith("#"):
            assert line.startswith("# HELP "), line
            continue
        found = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)', line)
        assert found, f"not a sample: {line!r}"
        labels = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', found.group(2) or "")
        base = re.sub(r"_(bucket|sum|count)$", "", found.group(1))
        assert found.group(1) in types or types.get(base) == "histogram", f"{found.group(1)} has no TYPE line"
        key = (found.group(1), frozenset(labels))
        assert key not in values, f"{line!r} comes twice"
        values[key] = float(found.group(3))
    return values


def metric(values, name, **labels):
    """The sum of the samples of that name that carry these labels."""
    found = [value for (n, l), value in values.items() if n == name and set(labels.items()) <= l]
    assert found, f"there is no metric {name}{labels}"
    return sum(found)


def buckets(values, name):
    """[(upper bound, cumulated count)] of a histogram, ascending."""
    found = [(float(dict(labels)["le"]), value) for (n, labels), value in values.items() if n == f"{name}_bucket"]
    assert found, f"there is no histogram {name}"
    return sorted(found)


# ---- many at once ----

def together(functions):
    """Calls all functions at the same time, each in a thread; returns their results in order."""
    results, errors = [None] * len(functions), []
    barrier = threading.Barrier(len(functions))

    def call(i, function):
        try:
            barrier.wait()
            results[i] = function()
        except BaseException as error:  # noqa: BLE001 (handed to the caller)
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i, f)) for i, f in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
