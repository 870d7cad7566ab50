"""The program from a shell: commands, options from all their places, names of models, the chat at a terminal."""
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from ask import chat, text
from harness import PATIENCE, ROOT, SMOLLM, TANDEM, Server, models_folder

DEFAULT_BACKEND = pytest.mark.cpu_only("it compares with the program's default backend")

COMMANDS = ["serve", "run", "inspect", "list", "pull", "rm", "search", "alias", "bench", "bench-kernels", "bench-serve"]
USAGE, MISSING, BAD_FILE = 2, 66, 65


def tandem(*arguments, env=None, stdin="", timeout=60):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
    return subprocess.run([str(TANDEM), *map(str, arguments)], capture_output=True, text=True, input=stdin,
                          env={**environment, "TANDEM_MODELS": str(models_folder()), "HF_HUB_CACHE": "/nowhere/hub",
                               "TANDEM_REGISTRY": "/nowhere/models.json", **(env or {})},
                          timeout=timeout * PATIENCE)


def works(*arguments, **options):
    done = tandem(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(status, message, *arguments, **options):
    done = tandem(*arguments, **options)
    assert done.returncode == status, f"{done.returncode}: {done.stderr}"
    assert re.search(message, done.stderr), done.stderr
    assert done.stdout == ""


# ---- what it says of itself ----

def test_version():
    out = works("version")
    assert out.startswith("tandem ") and "backend: cpu" in out
    assert works("--version") == out


def test_help_names_all_commands():
    out = works("--help")
    for command in [*COMMANDS, "version"]:
        assert f"tandem {command}" in out
    assert works() == works("help") == out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_and_the_documents_agree(command):
    options = set(re.findall(r"^  (--[a-z-]+)", works(command, "--help"), re.MULTILINE))
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| [^|]* \|([a-z -]*)\|", (ROOT / "docs" / "OPTIONS.md").read_text(), re.MULTILINE)
    assert options == {name for name, commands in rows if command in commands.split()}


@pytest.mark.parametrize(("kind", "file"), [("options", "OPTIONS.md"), ("api", "API.md")])
def test_generated_documents_are_fresh(kind, file):
    assert works("docs", kind) == (ROOT / "docs" / file).read_text(), "run `make docs`"


def test_wrong_usage():
    fails(USAGE, r"unknown command 'sevre'", "sevre")
    fails(USAGE, r"unknown option '--prot'", "serve", "x", "--prot", "1")
    fails(USAGE, r"unexpected argument 'b'", "inspect", "a", "b")
    fails(USAGE, r"needs a model", "run")
    fails(USAGE, r"--port needs a value", "serve", "x", "--port")
    fails(USAGE, r"--port: expected an integer from 0 to 65535, but got '70000'", "serve", "x", "--port", "70000")
    fails(USAGE, r"--kv-memory: expected a size such as 512M", "serve", "x", "--kv-memory", "much")
    fails(USAGE, r"--temperature: .*from 0 to 100.*'-1'", "serve", "x", "--temperature", "-1")
    fails(USAGE, r"unknown option .--no-port", "serve", "x", "--no-port")
    fails(USAGE, r"'xml' is none of text, logfmt, json", "serve", "x", "--log-format", "xml")


def test_serve_without_models(tmp_path):
    env = {"TANDEM_MODELS": str(tmp_path)}
    fails(USAGE, r"needs a model", "serve", env=env)
    fails(MISSING, r"no-such", "serve", "no-such", "nor-this", env=env)
    fails(USAGE, r"--keep-alive has no effect", "serve", "x", "--keep-alive", "5m", env=env)


# ---- models ----

def test_names_of_models(smollm_path):
    assert smollm_path.name == SMOLLM
    for name in ("smollm2:135m", "smollm2", "smollm2-135m-instruct-q4_1", smollm_path):
        assert works("inspect", name).splitlines()[0] == str(smollm_path)
    fails(MISSING, r"'nosuch:1b' is neither a file nor the name of a model", "inspect", "nosuch:1b")
    fails(MISSING, r"no file '/no/such/file'", "inspect", "/no/such/file")


def test_a_name_that_fits_several(tmp_path, tiny_path):
    for name in ("model-a-q4.gguf", "model-a-q8.gguf"):
        (tmp_path / name).symlink_to(tiny_path)
    env = {"TANDEM_MODELS": str(tmp_path)}
    fails(USAGE, r"'model:a' fits 2 models: model-a-q4\.gguf, model-a-q8\.gguf", "inspect", "model:a", env=env)
    assert "model-a-q8" in works("inspect", "model:a-q8", env=env)


def test_list(smollm_path):
    assert re.search(rf"^{re.escape(smollm_path.name)} +llama +Q4_1 +\d+ MiB$", works("list"), re.MULTILINE)
    row = next(row for row in json.loads(works("list", "--json")) if row["file"] == smollm_path.name)
    assert (row["architecture"], row["type"], row["size"]) == ("llama", "Q4_1", smollm_path.stat().st_size)


def test_list_of_nothing(tmp_path):
    assert json.loads(works("list", "--json", env={"TANDEM_MODELS": str(tmp_path)})) == []


def test_inspect(smollm_path):
    out = works("inspect", smollm_path)
    for what in (r"architecture +llama", r"210 Q4_1", r"context +8192", r"30 layers, width 576, 9 heads, 3 KV heads",
                 r"8192 tokens +weights \d+ \+ KV 180 = \d+ MiB"):
        assert re.search(what, out), out
    # K and V of 30 layers, 3 heads, 64 values: 22.5 KiB a token in f16, twice that in f32.
    assert re.search(r"8192 tokens +weights \d+ \+ KV 360 =", works("inspect", smollm_path, "--kv-type", "f32"))
    facts = json.loads(works("inspect", smollm_path, "--json"))
    assert facts["architecture"] == "llama"


def test_files_that_are_no_models(tmp_path, smollm_path):
    (tmp_path / "text.gguf").write_text("hello")
    (tmp_path / "cut.gguf").write_bytes(smollm_path.read_bytes()[:2_000_000])
    for name, message in (("text.gguf", r"GGUF"), ("cut.gguf", r"cut\.gguf.*(end|bytes|outside|beyond)")):
        for command in (("inspect",), ("run",), ("serve", "--port", "0")):
            done = tandem(command[0], tmp_path / name, *command[1:])
            assert done.returncode == BAD_FILE, done.stderr
            assert re.search(message, done.stderr), done.stderr


# ---- run ----

@DEFAULT_BACKEND
def test_run_answers_on_stdout(smollm, smollm_path):
    arguments = ["run", smollm_path, "Name three colors.", "--temperature", "0", "--max-tokens", "12", "--threads", "2"]
    out = works(*arguments)
    assert out == text(chat(smollm, "Name three colors.", temperature=0, max_tokens=12)) + "\n"
    assert works("run", smollm_path, *arguments[3:], stdin="Name three colors.") == out, "the prompt may come from a pipe"


@DEFAULT_BACKEND
def test_run_raw_and_seed(smollm, smollm_path):
    arguments = ["run", smollm_path, "Once upon", "a time", "--raw", "--max-tokens", "8", "--seed", "5"]
    out = works(*arguments)
    assert out == works(*arguments)
    assert out == smollm.complete("Once upon a time", max_tokens=8, seed=5)["choices"][0]["text"] + "\n"


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, *arguments):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            pytest.skip(f"skip: this machine has no pseudo-terminals ({error}): mount /dev/pts")
        if self.pid == 0:
            os.execv(str(TANDEM), [str(TANDEM), *map(str, arguments)])
        self.seen = ""

    def until(self, pattern, timeout=60):
        deadline = time.monotonic() + timeout * PATIENCE
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the end
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
        self.seen = self.seen[found.end():]
        return found

    def type(self, line):
        os.write(self.fd, line.encode())

    def end(self):
        deadline = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(self.fd, 4096)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the chat does not end")


def test_chat_at_a_terminal(smollm_path):
    chat = Terminal("run", smollm_path, "--temperature", "0", "--max-tokens", "400", "--threads", "2")
    chat.until(r"> ")
    chat.type("My name is Ada. Say hello.\n")
    first = int(chat.until(r"\[(\d+) prompt tokens.*?\].*?> ").group(1))
    chat.type("Count to one thousand, number by number.\n")
    chat.until(r"\n.{20}")
    chat.type("\x03")  # stops the answer, not the chat
    found = chat.until(r"\[(\d+) prompt tokens \((\d+) cached\).*?> ")
    assert int(found.group(1)) > first + 10, "the first turn is part of the second"
    assert int(found.group(2)) > 0
    chat.type("/clear\n")
    chat.until(r"> ")
    chat.type("My name is Ada. Say hello.\n")
    assert int(chat.until(r"\[(\d+) prompt tokens.*?\].*?> ").group(1)) == first, "the conversation is forgotten"
    chat.type("\x04")
    assert chat.end() == 0


# ---- options and where they come from ----

def sampling_of(server):
    """What the server's defaults make of a request without parameters: greedy or not."""
    return len({text(chat(server, "Tell me a story.", max_tokens=12)) for _ in range(3)})


def test_places_of_options(tiny_path, tmp_path):
    """A flag wins over the environment, which wins over the file, which wins over the default."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"max-context": 512, "max_sequences": 7, "kv-memory": "64M", "temperature": 0,
                                  "served-model-name": ["from-file"], "threads": 1}))
    env = {"TANDEM_CONFIG": str(config), "TANDEM_MAX_SEQUENCES": "9", "TANDEM_MAX_CONTEXT": "768"}
    with Server(tiny_path, "--max-context", 1024, env=env) as server:
        engine = server.engine()
        assert (engine["context"], engine["max_sequences"]) == (1024, 9)
        assert "from-file" in [model["id"] for model in server.http.get("/v1/models").json()["data"]]
        assert sampling_of(server) == 1, "the file's temperature is 0"
    with Server(tiny_path, "--config", config, "--served-model-name", "from-flag", "--temperature", "1") as server:
        assert (server.engine()["context"], server.engine()["max_sequences"]) == (512, 7)
        assert [model["id"] for model in server.http.get("/v1/models").json()["data"]][0] == "from-flag"
        assert sampling_of(server) == 3


@pytest.mark.parametrize(("content", "message"), [
    ("{", r"config\.json.*line 1"), ("[]", r"config\.json.*object"), ('{"prot": 1}', r"config\.json.*'prot'"),
    ('{"port": "x"}', r"config\.json.*port.*integer"), ('{"port": 70000}', r"config\.json.*port.*0 to 65535"),
    ('{"served-model-name": ["a", ""]}', r"--served-model-name.*empty"), ('{"kv-memory": true}', r"config\.json.*kv-memory"), ('{"served-model-name": [1]}', r"config\.json.*served-model-name"),
])
def test_bad_config_files(tiny_path, tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    fails(USAGE, message, "serve", tiny_path, "--config", tmp_path / "config.json")


def test_bad_environment(tiny_path):
    fails(USAGE, r"TANDEM_PORT.*0 to 65535", "serve", tiny_path, env={"TANDEM_PORT": "many"})
    fails(MISSING, r"nothing\.json", "serve", tiny_path, "--config", "/no/nothing.json")


def test_chat_template_file(tiny_path, tmp_path):
    good, bad = tmp_path / "good.jinja", tmp_path / "bad.jinja"
    good.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}")
    bad.write_text("line one\n{% for m in messages %}\n{{ m.content \n{% endfor %}")
    with Server(tiny_path, "--kv-memory", "64M", "--chat-template", good) as server:
        rendered = server.ok("/apply-template", {"messages": [{"role": "user", "content": "hi"}]})
        assert rendered["prompt"] == "[user] hi\n>"
    done = tandem("serve", tiny_path, "--port", "0", "--chat-template", bad)
    assert done.returncode != 0
    assert re.search(r"bad\.jinja.*line [34]", done.stderr), done.stderr


def test_overrides_reach_the_engine(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--override-kv", "llama.context_length=int:512") as server:
        assert server.engine()["context"] == 512
    plain = works("run", tiny_path, "Hello", "--raw", "--temperature", "0", "--max-tokens", "12")
    for option in (("--override-kv", "llama.rope.freq_base=float:50"), ("--rope-scaling", "linear:8")):
        assert works("run", tiny_path, "Hello " * 30, "--raw", "--temperature", "0", "--max-tokens", "12", *option) != plain
    for option, message in ((("--override-kv", "nonsense"), r"KEY=TYPE:VALUE"), (("--rope-scaling", "magic:2"), r"'magic:2'"),
                            (("--override-kv", "llama.block_count=int:9"), r"blk\.2\.")):
        fails(USAGE if "blk" not in message else BAD_FILE, message, "run", tiny_path, "Hello", *option)


def test_port_in_use(tiny_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tandem("serve", tiny_path, "--port", port)
        assert done.returncode != 0
        assert re.search(rf"127\.0\.0\.1:{port}.*(in use|address)", done.stderr), done.stderr


def test_not_for_other_machines_without_keys(tiny_path):
    fails(USAGE, r"--insecure-no-auth", "serve", tiny_path, "--port", "0", "--host", "0.0.0.0")
    with Server(tiny_path, "--kv-memory", "64M", "--insecure-no-auth", listen="0.0.0.0:0") as server:
        server.http = server.new_http()
        server.wait_ready()


@pytest.mark.parametrize("format", ["json", "logfmt"])
def test_log_formats(tiny_path, format):
    with Server(tiny_path, "--kv-memory", "64M", "--log-level", "debug", listen=None) as text_server:
        assert "INFO" in text_server.log()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([str(TANDEM), "serve", str(tiny_path), "--port", str(port), "--log-format", format],
                               stderr=subprocess.PIPE, text=True)
    lines = [process.stderr.readline() for _ in range(2)]
    process.terminate()
    lines += process.stderr.read().splitlines()
    assert process.wait(30 * PATIENCE) == 0
    for line in filter(None, map(str.strip, lines)):
        if format == "json":
            assert {"time", "level"} <= set(json.loads(line)), line
        else:
            assert re.match(r"time=\S+ level=\w+ ", line), line


def test_inspect_tensors(tiny_path, parity_model):
    """What becomes of each tensor, on each backend."""
    facts = json.loads(works("inspect", tiny_path, "--tensors", "--json"))["layout"]
    embedding = next(t for t in facts if t["name"] == "token_embd.weight")
    assert embedding["shape"] == "49152x64" and embedding["type"] == "F32"
    assert embedding["cpu"] == "in place" and embedding["mlx_f32"].startswith("f32 in place")
    assert embedding["mlx_f16"] == "f16, rounded"
    assert "blk.1.ffn_down.weight" in works("inspect", parity_model("qwen3"), "--tensors")
