"""Servers and clients that live as long as the run; models and servers are those of tests/e2e/harness.py."""
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tools")]

import client_runs  # noqa: E402 (these need the path)
import npm_packages  # noqa: E402
from harness import BUILD, QWEN, SMOLLM, TANDEM, Server, make_model, missing, real_model, tiny_config  # noqa: E402
from script_rules import AGENT_TEMPLATE  # noqa: E402


def pytest_sessionstart(session):
    if not TANDEM.exists():
        raise pytest.UsageError(f"{TANDEM} does not exist: build it, or name it with $TANDEM")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also what takes minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: left out without --long")
    config.addinivalue_line("markers", "cpu_only(why): of tests/e2e, which helpers are taken from")


def pytest_collection_modifyitems(config, items):
    for item in items if not config.getoption("--long") else []:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: pytest --long"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """Where clients that read files find them."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "note.txt").write_text(f"{client_runs.SECRET}\n")
    return folder


@pytest.fixture(scope="session")
def new_scripted(workshop, tmp_path_factory):
    """Makes servers of a model that takes tools and reasons, with room for the prompts of coding agents, and answers by
    the rules of client_runs.py."""
    folder = tmp_path_factory.mktemp("scripted")
    model = make_model(tiny_config(context=65536), folder / "agent.gguf", real_model(SMOLLM))
    (folder / "script.json").write_text(json.dumps(client_runs.script(workshop)))

    def make(template):
        (folder / "template.jinja").write_text(template)
        return Server(model, "--threads", 2, "--kv-memory", "128M", "--script", folder / "script.json", "--chat-template",
                      folder / "template.jinja", "--served-model-name", "claude-*", "--served-model-name", "gpt-*")
    return make


@pytest.fixture(scope="session")
def scripted(new_scripted):
    with new_scripted(AGENT_TEMPLATE) as server:
        yield server


@pytest.fixture(scope="session")
def qwen():
    """The real model; greedy where a client does not say how to sample."""
    with Server(real_model(QWEN), "--threads", 2, "--kv-memory", "512M", "--temperature", 0, "--served-model-name", "claude-*",
                "--served-model-name", "gpt-*") as server:
        yield server


@pytest.fixture(scope="session")
def node_modules():
    """The clients of package.json; skips without npm, also in CI, where it may be missing."""
    manifest = json.loads((HERE / "package.json").read_text())
    folder, why = npm_packages.install(BUILD / "cache" / "clients", manifest)
    if not folder:
        pytest.skip(f"skip: {why}")
    return folder


@pytest.fixture(scope="session")
def langchain_python():
    """The interpreter of an environment that has what requirements.txt names."""
    venv = BUILD / "cache" / "clients-venv"
    done = subprocess.run([ROOT / "tools" / "make_venv.sh", venv, HERE / "requirements.txt"], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-1000:])
        missing("LangChain (pip could not install it)")
    return venv / "bin" / "python"
