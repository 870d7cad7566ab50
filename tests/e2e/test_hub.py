"""Models from the Hugging Face Hub: a server that speaks its API (fake_hub.py), the real huggingface_hub beside us."""
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from fake_hub import FakeHub
from harness import PATIENCE, ROOT, TANDEM, Server, environment, make_model

pytestmark = pytest.mark.cpu_only("what is looked at has nothing to do with a backend")
USAGE, BAD_FILE, MISSING, UNAVAILABLE, NO_ACCESS, IO = 2, 65, 66, 69, 77, 74
PIECE = 8 << 20  # DOWNLOAD_PIECE_SIZE


def weights(size, seed=1):
    return random.Random(seed).randbytes(size)


FOLDER = {"config.json": b'{"model_type": "x"}', "tokenizer.json": b"{}" * 3000, "model.safetensors": weights(200_000),
          "pytorch_model.bin": b"a pickle" * 1000, "modeling_x.py": b"import os", "README.md": b"# x"}


class Home:
    """Somebody with a cache, a token and a registry of their own."""

    def __init__(self, path, hub):
        self.path, self.hub = path, hub
        self.cache = path / "hf" / "hub"
        self.env = {"HF_HOME": str(path / "hf"), "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token,
                    "XDG_CONFIG_HOME": str(path / "config"), "TANDEM_MODELS": str(path / "models"),
                    "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def environment(self, more):
        clean = {k: v for k, v in environment().items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        return {k: v for k, v in {**clean, **self.env, **more}.items() if v is not None}

    def run(self, *arguments, **more):
        return subprocess.run([str(TANDEM), *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              env=self.environment(more), timeout=60 * PATIENCE)

    def works(self, *arguments, **more):
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, status, message, *arguments, **more):
        done = self.run(*arguments, **more)
        assert done.returncode == status, f"{done.returncode}: {done.stderr}"
        assert re.search(message, done.stderr), done.stderr
        return done.stderr

    def python(self, code, **more):
        """What the code prints as JSON, with the real huggingface_hub."""
        done = subprocess.run([sys.executable, "-c", "import huggingface_hub, json\n" + code], capture_output=True,
                              text=True, env=self.environment(more), timeout=60 * PATIENCE)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def repo(self, name="own/er"):
        return self.cache / f"models--{name.replace('/', '--')}"

    def blobs(self, name="own/er"):
        folder = self.repo(name) / "blobs"
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def hub():
    with FakeHub() as fake:
        yield fake


@pytest.fixture
def home(hub, tmp_path):
    return Home(tmp_path, hub)


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---- bringing ----

def test_a_folder_is_brought_and_checked(hub, home):
    repo = hub.add("own/er", FOLDER)
    path = pathlib.Path(home.works("pull", "own/er").strip())
    assert path == home.repo() / "snapshots" / repo.commit
    assert tree(path) == ["config.json", "model.safetensors", "tokenizer.json"]  # no pickle, no code
    for name in tree(path):
        assert (path / name).read_bytes() == FOLDER[name]
        assert os.readlink(path / name).startswith("../../blobs/")
    assert (home.repo() / "refs" / "main").read_text() == repo.commit
    assert hashlib.sha256(FOLDER["model.safetensors"]).hexdigest() in home.blobs()
    before = len(hub.storage.requests)
    assert home.works("pull", "own/er").strip() == str(path)
    assert len(hub.storage.requests) == before  # nothing is brought twice
    listed = json.loads(home.works("list", "--json"))
    assert [(m["name"], m["complete"], m["path"]) for m in listed] == [("own/er", True, str(path))]


def test_the_token_stays_with_the_hub(hub, home):
    hub.add("own/er", FOLDER, private=True)
    home.works("pull", "own/er")
    assert hub.requests and all(r[2].get("authorization") == f"Bearer {hub.token}" for r in hub.requests)
    assert hub.storage.requests and not any("authorization" in r[2] for r in hub.storage.requests)
    assert not any(hub.token in str(r) for r in hub.storage.requests)


def test_the_token_of_the_file(hub, home):
    hub.add("own/er", FOLDER, private=True)
    (home.path / "hf").mkdir()
    (home.path / "hf" / "token").write_text(hub.token + "\n")
    home.works("pull", "own/er", HF_TOKEN=None)
    home.fails(NO_ACCESS, "or it is private", "pull", "own/er", HF_TOKEN=None, HF_HUB_DISABLE_IMPLICIT_TOKEN="1")


def test_pieces_over_several_connections(hub, home):
    data = weights(5 * PIECE + 12345)
    hub.add("own/er", {**FOLDER, "model.safetensors": data})
    path = pathlib.Path(home.works("pull", "own/er").strip())
    assert (path / "model.safetensors").read_bytes() == data
    ranges = sorted(r[2]["range"] for r in hub.storage.requests if "range" in r[2])
    assert len(ranges) == 6 and f"bytes={5 * PIECE}-{len(data) - 1}" in ranges
    assert sum(1 for r in hub.requests if "/resolve/" in r[1] and r[1].endswith("model.safetensors")) == 1


def test_goes_on_where_it_was_cut(hub, home):
    """Cuts within one call; then a program that is killed, and another one."""
    data = weights(3 * PIECE)
    hub.add("own/er", {**FOLDER, "model.safetensors": data})
    hub.storage.cut_after, hub.storage.cuts = 3_000_000, 2
    done = home.run("pull", "own/er")
    assert done.returncode == 0 and "Another attempt" in done.stderr
    assert sum(1 for r in hub.storage.requests if r[2].get("range", "").startswith("bytes=3000000-")) == 1
    home.works("rm", "own/er")

    hub.storage.delay = 0.02
    process = subprocess.Popen([str(TANDEM), "pull", "own/er"], env=home.environment({}), stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    part = home.repo() / "blobs" / (hashlib.sha256(data).hexdigest() + ".incomplete")
    deadline = time.monotonic() + 20 * PATIENCE
    while not (part.exists() and part.stat().st_size > 500_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = part.stat().st_size
    assert 500_000 < there < len(data)
    assert part.read_bytes() == data[:there]  # always a beginning
    assert [m["complete"] for m in json.loads(home.works("list", "--json"))] == [False]
    hub.storage.delay = 0
    hub.storage.requests.clear()
    path = pathlib.Path(home.works("pull", "own/er").strip())
    assert (path / "model.safetensors").read_bytes() == data
    assert min(int(r[2]["range"].split("=")[1].split("-")[0]) for r in hub.storage.requests) == there


@pytest.mark.parametrize("fault, status, message", [((302, {"Location": "file:///x"}), BAD_FILE, "no URL"),
                                                    ((206, {"Content-Range": "bytes 0-5/6"}), BAD_FILE, "lists it with"),
                                                    ((404, {}), MISSING, "m-Q4_0"),
                                                    ((200, {}), 0, "6 bytes of something else")])
def test_what_has_come_outlives_strange_replies(hub, home, fault, status, message):
    """A redirect to nowhere, another file, none, a page that somebody puts in the way."""
    data = weights(4_000_000)
    hub.add("own/er", {"m-Q4_0.gguf": data})
    part = home.repo() / "blobs" / (hashlib.sha256(data).hexdigest() + ".incomplete")
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:3_000_000])
    hub.storage.statuses = [fault]
    done = home.run("pull", "own/er")
    assert done.returncode == status and re.search(message, done.stderr), done.stderr
    assert status == 0 or part.read_bytes() == data[:3_000_000]
    assert pathlib.Path(home.works("pull", "own/er").strip()).read_bytes() == data
    assert {r[2]["range"] for r in hub.storage.requests} == {"bytes=3000000-3999999"}


def test_a_line_that_is_down_for_a_while(hub, home):
    """In the middle of a file there is more patience than before its first byte, where it ends after 6 attempts."""
    hub.add("own/er", {"m-Q4_0.gguf": weights(PIECE + 1)})
    hub.storage.statuses = [None] + 6 * [(503, {"Retry-After": "1"})]
    home.works("pull", "own/er")


def test_two_at_once_bring_it_once(hub, home):
    hub.add("own/er", {**FOLDER, "model.safetensors": weights(2_000_000)})
    hub.storage.delay = 0.01
    both = [subprocess.Popen([str(TANDEM), "pull", "own/er"], env=home.environment({}), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [p.communicate(timeout=60 * PATIENCE) for p in both]
    assert [p.returncode for p in both] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert sum(1 for r in hub.storage.requests) == 2  # tokenizer.json and model.safetensors


def test_revisions(hub, home):
    other = hub.add("own/er", FOLDER, revisions={"refs/pr/1": "1" * 40, "v1": "2" * 40})
    other.commit = "1" * 40
    assert home.works("pull", "own/er@refs/pr/1").strip().endswith("1" * 40)
    assert (home.repo() / "refs" / "refs" / "pr" / "1").read_text() == "1" * 40
    assert "revision/refs%2Fpr%2F1" in hub.requests[0][1]
    home.fails(MISSING, "no such branch", "pull", "own/er@nothing")


def test_precisions(hub, home):
    files = {"m-Q8_0.gguf": b"GGUF" * 2000, "m-Q4_K_M.gguf": b"GGUF" * 1500, "s/m-Q2_K-00001-of-00002.gguf": b"GGUF" * 1100,
             "s/m-Q2_K-00002-of-00002.gguf": b"GGUF" * 1200}
    hub.add("own/er", files)
    assert home.works("pull", "own/er").strip().endswith("/m-Q4_K_M.gguf")
    assert home.works("pull", "own/er:8bit").strip().endswith("/m-Q8_0.gguf")
    path = home.works("pull", "own/er:Q2_K").strip()
    assert path.endswith("/s/m-Q2_K-00001-of-00002.gguf")
    assert pathlib.Path(path.replace("00001-of", "00002-of")).read_bytes() == files["s/m-Q2_K-00002-of-00002.gguf"]
    home.fails(MISSING, "on offer: Q4_K_M, Q8_0, Q2_K", "pull", "own/er:Q5_K_M")
    hub.add("own/other", {"sub/plain.gguf": b"GGUF" * 1024})
    home.works("pull", "own/other")
    listed = [m["name"] for m in json.loads(home.works("list", "--json"))]
    assert "own/other:sub/plain.gguf" in listed
    home.works("rm", "own/other:sub/plain.gguf")
    names = {m["name"]: m["size"] for m in json.loads(home.works("list", "--json"))}
    assert names == {"own/er:Q4_K_M": 6000, "own/er:Q8_0": 8000, "own/er:Q2_K": 9200}
    assert "8 KiB freed" in home.works("rm", "own/er:Q8_0")
    assert len(json.loads(home.works("list", "--json"))) == 2


# ---- what goes wrong ----

def test_a_wrong_sum_leaves_nothing_behind(hub, home):
    hub.add("own/er", FOLDER)
    hub.storage.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    home.fails(BAD_FILE, r"tokenizer\.json: what came has the SHA-256", "pull", "own/er")
    assert not any("incomplete" in b or len(b) == 64 for b in home.blobs())
    hub.storage.spoil = None
    hub.api.spoil = lambda data: data.replace(b"x", b"y")
    home.works("rm", "own/er")
    home.fails(BAD_FILE, r"config\.json: what came has the SHA-1", "pull", "own/er")
    assert home.blobs() == []


@pytest.mark.parametrize("spoil", [lambda data: data + b"more", lambda data: data[:-7]])
def test_a_wrong_size_is_refused(hub, home, spoil):
    hub.add("own/er", FOLDER)
    hub.storage.spoil = spoil
    home.fails(BAD_FILE, r"own/er: tokenizer\.json: .*but the Hub lists it with", "pull", "own/er")
    assert not any("incomplete" in b or len(b) == 64 for b in home.blobs())


def test_a_spoilt_beginning_is_brought_again(hub, home):
    data = FOLDER["model.safetensors"]
    hub.add("own/er", FOLDER)
    blobs = home.repo() / "blobs"
    blobs.mkdir(parents=True)
    (blobs / (hashlib.sha256(data).hexdigest() + ".incomplete")).write_bytes(b"something else")
    path = pathlib.Path(home.works("pull", "own/er").strip())
    assert (path / "model.safetensors").read_bytes() == data


def test_servers_that_are_busy_are_asked_again(hub, home):
    hub.add("own/er", FOLDER)
    hub.api.statuses = [(503, {}), (429, {"Retry-After": "1"}), (500, {})]
    hub.storage.statuses = [(502, {})]
    before = time.monotonic()
    assert "Another attempt in 1.0 s" in home.run("pull", "own/er").stderr
    assert time.monotonic() - before >= 1
    hub.api.statuses = [(429, {"Retry-After": "4000"})]
    home.fails(75, "asks to wait 4000 seconds", "pull", "own/er")
    hub.api.statuses = [(503, {"Retry-After": "4000"})]
    home.fails(UNAVAILABLE, "asks to wait 4000 seconds", "pull", "own/er")
    hub.api.statuses = [(404, {"Retry-After": "4000"})]
    home.fails(MISSING, "there is no repository own/er", "pull", "own/er")


def test_a_signature_that_has_run_out(hub, home):
    data = weights(2 * PIECE)
    hub.add("own/er", {**FOLDER, "model.safetensors": data})
    hub.storage.statuses = [(403, {})]  # of the first file; it is asked for at the Hub again
    home.works("pull", "own/er")
    assert sum(1 for r in hub.requests if r[1].endswith("/tokenizer.json")) == 2


def test_a_server_without_ranges(hub, home):
    data = weights(2 * PIECE + 1)
    hub.add("own/er", {**FOLDER, "model.safetensors": data})
    hub.storage.ignore_ranges = True
    path = pathlib.Path(home.works("pull", "own/er").strip())
    assert (path / "model.safetensors").read_bytes() == data


def test_a_part_that_is_announced_too_long(hub, home):
    data = weights(PIECE + 1)
    hub.add("own/er", {"m-Q4_0.gguf": data})
    hub.storage.overstate = 5
    assert pathlib.Path(home.works("pull", "own/er").strip()).read_bytes() == data
    assert len(hub.storage.requests) == 2


def test_who_has_no_access_is_told_what_to_do(hub, home):
    hub.add("own/er", FOLDER, gated=True)
    message = home.fails(NO_ACCESS, "own/er is gated", "pull", "own/er")
    assert f"{hub.url}/own/er" in message and hub.token not in message
    home.fails(NO_ACCESS, "own/er is gated: ask for access .* HF_TOKEN", "pull", "own/er", HF_TOKEN=None)
    home.fails(NO_ACCESS, "does not accept your token", "pull", "own/er", HF_TOKEN="hf_wrong")
    home.fails(MISSING, "there is no repository own/other", "pull", "own/other")
    home.fails(USAGE, "holds what is no token", "pull", "own/er", HF_TOKEN="a b")
    hub.repos["own/er"].gated = "granted"
    home.works("pull", "own/er")
    home.works("list", HF_TOKEN="a b")  # what is here needs none
    home.works("rm", "own/er", HF_TOKEN="a b")


def test_no_network(hub, home):
    home.fails(UNAVAILABLE, "own/er@main: the Hub cannot be reached: .*no connection", "pull", "own/er", HF_ENDPOINT="http://127.0.0.1:1")


def test_only_pickles(hub, home):
    hub.add("own/er", {"config.json": b"{}", "pytorch_model.bin": b"x" * 5000})
    home.fails(USAGE, "pickles only", "pull", "own/er")
    assert not home.repo().exists()


HOSTILE = ["../../../evil", "/tmp/tandem-evil", "a/../../evil", "a//b", "a\\..\\b", "/dev/stdout", "x\n.gguf", "..", "C:evil.gguf"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_nothing(hub, home, name):
    hub.add("own/er", {"m-Q4_0.gguf": b"GGUF" * 2000},
            entries={name: {"rfilename": name, "size": 3, "blobId": "a" * 40}})
    home.fails(BAD_FILE, "list of files", "pull", "own/er")
    assert not home.cache.exists() and not pathlib.Path("/tmp/tandem-evil").exists()
    assert tree(home.path) == []


def test_hostile_checksums_and_sizes(hub, home):
    good = {"rfilename": "m.gguf", "size": 3, "blobId": "a" * 40}
    for change in ({"blobId": "../../evil"}, {"size": -1}, {"size": 2 ** 60}, {"lfs": {"sha256": "/x", "size": 3}}, {"size": "3"}):
        hub.add("own/er", {}, entries={"m.gguf": {**good, **change}})
        home.fails(BAD_FILE, "no checksum|possible size", "pull", "own/er")
    hub.add("own/er", {}, commit="../../../evil")
    home.fails(BAD_FILE, "names no commit", "pull", "own/er")
    assert tree(home.path) == []


def test_links_in_the_cache_are_not_written_through(hub, home):
    repo = hub.add("own/er", FOLDER)
    outside = home.path / "outside"
    outside.mkdir()
    for name in ("blobs", "snapshots", "refs"):
        home.repo().mkdir(parents=True, exist_ok=True)
        (home.repo() / name).symlink_to(outside)
        home.fails(IO, "a link or a file is in its place", "pull", "own/er")
        (home.repo() / name).unlink()
    home.works("pull", "own/er")
    config = home.repo() / "snapshots" / repo.commit / "config.json"
    config.unlink()
    config.symlink_to("/etc/passwd")
    home.fails(UNAVAILABLE, "not here whole", "run", "own/er", "hello", HF_HUB_OFFLINE="1")
    home.works("pull", "own/er")
    assert os.readlink(config).startswith("../../blobs/")
    assert tree(outside) == []


def test_redirects_that_are_not_followed(hub, home):
    hub.add("own/er", FOLDER)
    for location, message in (("file:///etc/passwd", "no URL"), ("ftp://x/y", "no URL"), ("http://a b/", "no URL")):
        hub.api.statuses = [(302, {"Location": location})]
        home.fails(BAD_FILE, message, "pull", "own/er")
    hub.api.statuses = [(302, {"Location": "/api/models/own/er/revision/main?blobs=true"})]
    home.works("pull", "own/er")


def test_no_room_is_said_before_the_first_byte(hub, home):
    name = "m-Q4_0.gguf"
    hub.add("own/er", {}, entries={name: {"rfilename": name, "size": 134, "blobId": "a" * 40,
                                          "lfs": {"sha256": "b" * 64, "size": 1 << 49, "pointerSize": 134}}})
    home.fails(IO, "no room for own/er: 524288.0 GiB", "pull", "own/er")
    assert home.blobs() == [] and not hub.storage.requests


# ---- beside the real huggingface_hub ----

def test_huggingface_hub_finds_ours(hub, home):
    repo = hub.add("own/er", {**FOLDER, "additional_chat_templates/tool_use.jinja": b"{{ x }}"})
    path = home.works("pull", "own/er").strip()
    hub.requests.clear()
    hub.storage.requests.clear()
    found = home.python("""
info = huggingface_hub.scan_cache_dir()
repo, = info.repos
revision, = repo.revisions
print(json.dumps({"id": repo.repo_id, "commit": revision.commit_hash, "refs": list(revision.refs), "size": repo.size_on_disk,
    "files": sorted(f.file_name for f in revision.files), "warnings": [str(w) for w in info.warnings],
    "config": huggingface_hub.try_to_load_from_cache("own/er", "config.json"),
    "nested": huggingface_hub.hf_hub_download("own/er", "additional_chat_templates/tool_use.jinja", local_files_only=True),
    "weights": huggingface_hub.hf_hub_download("own/er", "model.safetensors")}))""")
    assert found == {"id": "own/er", "commit": repo.commit, "refs": ["main"], "warnings": [], "config": f"{path}/config.json",
                     "size": sum(len(FOLDER[n]) for n in ("config.json", "tokenizer.json", "model.safetensors")) + 7,
                     "files": ["config.json", "model.safetensors", "tokenizer.json", "tool_use.jinja"],
                     "nested": f"{path}/additional_chat_templates/tool_use.jinja", "weights": f"{path}/model.safetensors"}
    assert not hub.storage.requests and not any(r[0] == "GET" for r in hub.requests)  # nothing is brought again


def test_theirs_is_found_here(hub, home):
    hub.add("own/er", FOLDER)
    path = home.python('print(json.dumps(huggingface_hub.snapshot_download("own/er")))')
    listed = json.loads(home.works("list", "--json", HF_HUB_OFFLINE="1"))
    assert [(m["name"], m["complete"], m["path"]) for m in listed] == [("own/er", True, path)]
    requests = len(hub.storage.requests)
    assert home.works("pull", "own/er").strip() == path
    assert len(hub.storage.requests) == requests
    assert "freed" in home.works("rm", "own/er")
    assert home.python("print(json.dumps(len(huggingface_hub.scan_cache_dir().repos)))") == 0


def test_rm_keeps_what_another_snapshot_needs(hub, home):
    repo = hub.add("own/er", FOLDER)
    home.works("pull", "own/er")
    old = repo.commit
    repo.files["model.safetensors"] = weights(100_000, seed=2)
    repo.commit = "3" * 40
    repo.revisions["main"] = repo.commit
    path = pathlib.Path(home.works("pull", "own/er").strip())
    names = {m["name"] for m in json.loads(home.works("list", "--json"))}
    assert names == {"own/er", f"own/er@{old}"}  # each can be said to rm
    assert "1 files, 195 KiB freed" in home.works("rm", f"own/er@{old}")
    assert (path / "config.json").read_bytes() == FOLDER["config.json"]
    assert home.python("print(json.dumps([str(w) for w in huggingface_hub.scan_cache_dir().warnings]))") == []
    home.fails(MISSING, "no 'own/nothing'", "rm", "own/nothing")


# ---- looking, naming ----

def test_search(hub, home):
    hub.add("own/er-GGUF", {"m-Q4_0.gguf": b"x"})
    hub.add("own/other", FOLDER)
    assert re.search(r"^own/er-GGUF +5  gguf$", home.works("search", "er-gguf"), re.MULTILINE)
    assert [m["name"] for m in json.loads(home.works("search", "own", "--json"))] == ["own/er-GGUF", "own/other"]
    assert home.works("search", "zzz") == "nothing found\n"
    home.fails(UNAVAILABLE, "HF_HUB_OFFLINE", "search", "own", HF_HUB_OFFLINE="yes")


def test_aliases(hub, home, tiny_path):
    assert "no aliases" in home.works("alias")
    home.works("alias", "mine", tiny_path)
    home.works("alias", "far:1", "own/er:Q4_0")
    assert json.loads(home.works("alias", "--json")) == {"mine": str(tiny_path), "far:1": "own/er:Q4_0"}
    home.fails(USAGE, "--json lists all aliases", "alias", "mine", "--json")
    assert home.works("inspect", "mine", "--measure", "off").splitlines()[0] == str(tiny_path)
    home.fails(MISSING, "alias 'far:1'|no repository own/er", "run", "far:1", "hello")
    home.works("alias", "mine", "--remove")
    home.fails(MISSING, "no alias 'mine'", "alias", "mine", "--remove")
    home.fails(USAGE, "the revision", "alias", "x", "own/er@..")
    registry = home.path / "config" / "tandem" / "models.json"
    registry.write_text('{"aliases": {\n"x": 1}}')
    home.fails(USAGE, "models.json.*line 2, alias 'x'", "run", "anything", "hello")


@pytest.fixture(scope="module")
def qwen3_files(tmp_path_factory):
    """A small random model as a folder."""
    folder = tmp_path_factory.mktemp("qwen3") / "model"
    make_model(ROOT / "tests" / "data" / "parity" / "qwen3.json", folder)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_inspect_looks_at_heads_alone(hub, home, qwen3_files, tiny_path):
    hub.add("own/er", {**qwen3_files, "m-Q8_0.gguf": tiny_path.read_bytes()})
    facts = json.loads(home.works("inspect", "own/er", "--json", "--measure", "off"))
    assert facts["servable"] and facts["architecture"] == "qwen3" and facts["precision"] == "safetensors"
    assert {o["precision"] for o in facts["offers"]} == {"safetensors", "Q8_0"}
    assert facts["size"] == len(qwen3_files["model.safetensors"])
    assert [p["name"] for p in facts["precisions"]] == ["as stored", "8 bits", "6 bits", "4 bits"]
    sizes = [p["weights"] for p in facts["precisions"]]
    assert sizes == sorted(sizes, reverse=True) and sizes[3] < 0.25 * sizes[0]
    assert facts["memory"][0]["fits"] is True
    asked = sum(int(r[2]["range"].split("-")[1]) - int(r[2]["range"].split("=")[1].split("-")[0]) + 1
                for r in hub.storage.requests if "range" in r[2])
    assert 0 < asked < len(qwen3_files["model.safetensors"]) / 4
    out = home.works("inspect", "own/er:Q8_0")
    assert "architecture  llama" in out and "tokens/s at most" in out and "GB/s measured" in out
    assert not home.cache.exists()
    home.fails(UNAVAILABLE, "HF_HUB_OFFLINE", "inspect", "own/er", HF_HUB_OFFLINE="1")


def test_inspect_of_what_is_no_model(hub, home):
    hub.add("own/er", {"m-Q4_0.gguf": b"GGML" * 3000})
    home.fails(BAD_FILE, "not a GGUF file", "inspect", "own/er")
    hub.add("own/er", {"m-Q4_0.gguf": b"GGUF\3\0\0\0" + b"\xff" * 9000})
    home.fails(BAD_FILE, "metadata keys", "inspect", "own/er")
    hub.add("own/er", {**FOLDER, "model.safetensors": b"\xff" * 9000})
    home.fails(BAD_FILE, "head is longer", "inspect", "own/er")


# ---- serving ----

def test_serve_brings_and_answers(hub, home, qwen3_files, tiny_path):
    hub.add("own/er", {**qwen3_files, "m-Q8_0.gguf": b"GGUF" * 2000, "pytorch_model.bin": b"x" * 9000})
    options = ("--max-context", 512, "--kv-memory", "16M")
    home.fails(UNAVAILABLE, "not here whole", "serve", "own/er", *options, HF_HUB_OFFLINE="1")
    with Server("own/er", *options, env={**home.env, "HF_HUB_OFFLINE": "0"}) as server:
        assert server.http.get("/v1/models").json()["data"][0]["id"] == "own/er"
        answer = server.complete("Once", max_tokens=4, temperature=0, model="own/er")
        assert answer["usage"]["completion_tokens"] == 4
        for pid in (server.engine()["pid"], server.process.pid):
            environ = pathlib.Path(f"/proc/{pid}/environ")
            assert not environ.exists() or hub.token.encode() not in environ.read_bytes()
    requests = len(hub.requests) + len(hub.storage.requests)
    with Server("own/er", *options, "--draft-model", "own/er", env={**home.env, "HF_HUB_OFFLINE": "1"}) as server:
        again = server.complete("Once", max_tokens=4, temperature=0)
        assert again["choices"][0]["text"] == answer["choices"][0]["text"]
    cache = {"XDG_CACHE_HOME": str(home.path / "cache"), "HF_HUB_OFFLINE": "1"}
    with Server("own/er", tiny_path, *options, "--quantize", "8", env={**home.env, **cache}) as server:  # on demand
        assert [m["id"] for m in server.http.get("/v1/models").json()["data"]] == ["own/er", tiny_path.stem]
        assert server.complete("Once", max_tokens=4, model="own/er")["model"] == "own/er"
        assert server.status()["models"][0]["precision"]["bits"] == 8
    assert len(hub.requests) + len(hub.storage.requests) == requests  # what is here is not asked for


def test_a_running_server_brings_nothing(hub, home, qwen3_files, tiny_path):
    """What a file of models names on SIGHUP and is not here is refused with the command that brings it, and nothing has
    changed."""
    hub.add("own/er", qwen3_files)
    file = home.path / "models.json"
    mine, theirs = {"name": "mine", "model": str(tiny_path)}, {"name": "theirs", "model": "own/er"}

    def write(*models):
        file.write_text(json.dumps({"folder": False, "models": models}))

    write(mine)
    server = Server("", "--models", file, "--max-context", 512, "--kv-memory", "16M", env=home.env)
    server.arguments.remove("")
    with server:
        write(mine, theirs)
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(lambda: "`tandem pull own/er`" in server.log(), "the reason is in the log")
        assert not hub.requests and [m["model"] for m in server.status()["models"]] == ["mine"]
        home.works("pull", "own/er")
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(lambda: len(server.status()["models"]) == 2, "theirs is in the list")
        assert server.complete("Once", max_tokens=2, model="theirs")["usage"]["completion_tokens"] == 2


def test_a_folder_of_no_known_family_gives_way_to_gguf(hub, home, tiny_path):
    head = json.dumps({"w": {"dtype": "F32", "shape": [2048], "data_offsets": [0, 8192]}}).encode()
    hub.add("own/er", {"config.json": b'{"model_type": "strange"}', "m-Q8_0.gguf": tiny_path.read_bytes(),
                       "model.safetensors": len(head).to_bytes(8, "little") + head + bytes(8192)})
    facts = json.loads(home.works("inspect", "own/er", "--json", "--measure", "off"))
    assert facts["servable"] and facts["precision"] == "Q8_0"  # it speaks of what is brought
    assert home.works("pull", "own/er").strip().endswith(".gguf")
    assert home.works("pull", "own/er:safetensors").strip().endswith(hub.repos["own/er"].commit)
    facts = json.loads(home.works("inspect", "own/er", "--json", "--measure", "off", HF_HUB_OFFLINE="1"))
    assert facts["servable"] and facts["path"].endswith("/m-Q8_0.gguf")  # also of what is here


def test_a_folder_that_cannot_be_looked_at_does_not(hub, home, tiny_path):
    """Which of both is taken does not depend on the network."""
    hub.add("own/er", {**FOLDER, "m-Q8_0.gguf": tiny_path.read_bytes()})
    hub.storage.statuses = [(429, {"Retry-After": "4000"})]
    home.fails(75, r"model\.safetensors: .*asks to wait", "pull", "own/er")
    assert not home.cache.exists()


def test_a_folder_without_a_tokenizer_beside_what_is_unfinished(hub, home):
    repo = hub.add("own/er", {n: data for n, data in FOLDER.items() if n != "tokenizer.json"})
    home.works("pull", "own/er")
    (home.repo() / "blobs" / ("f" * 64 + ".incomplete")).write_bytes(b"of another one")
    assert home.works("pull", "own/er").strip().endswith(repo.commit)


def test_inspect_shows_no_commands_to_the_terminal(hub, home):
    head = json.dumps({"w": {"dtype": "F32", "shape": [2048], "data_offsets": [0, 8192]}}).encode()
    hub.add("own/er", {"config.json": json.dumps({"model_type": "a\x1b[2J\x9bJ\nb"}).encode(),
                       "model.safetensors": len(head).to_bytes(8, "little") + head + bytes(8192)})
    out = home.works("inspect", "own/er", "--measure", "off")
    assert "architecture  a?[2J??J b\n" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)


def test_progress_goes_to_standard_error_in_lines(hub, home):
    hub.add("own/er", FOLDER)
    done = home.run("pull", "own/er")
    assert re.search(r"own/er +100% of 201 KiB", done.stderr) and "\r" not in done.stderr
    assert done.stdout.count("\n") == 1
