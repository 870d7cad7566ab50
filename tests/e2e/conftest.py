"""Servers that live as long as the test run; see harness.py."""
import json

import pytest

import script_rules
from harness import BACKEND, QWEN, SMOLLM, TANDEM, Server, make_model, missing, real_model, tiny_config


def pytest_sessionstart(session):
    if not TANDEM.exists():
        raise pytest.UsageError(f"{TANDEM} does not exist: build it, or name it with $TANDEM")


def pytest_configure(config):
    config.addinivalue_line("markers", "alone(why): not beside another file of tests")
    config.addinivalue_line("markers", "cpu_only(why): left out when the servers run on another backend")


def pytest_collection_modifyitems(items):
    for item in items if BACKEND != "cpu" else []:
        mark = item.get_closest_marker("cpu_only")
        if mark:
            item.add_marker(pytest.mark.skip(reason=f"on the cpu backend only: {mark.args[0]}"))


@pytest.fixture(scope="session")
def smollm_path():
    return real_model(SMOLLM)


def small_stand_in(tiny_path, smollm_path):
    """The small random model under the real one's name."""
    link = tiny_path.parent / "as" / smollm_path.name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tiny_path)
    return link


@pytest.fixture(scope="session")
def smollm(smollm_path, tiny_path):
    """The real model. Its sequences are short and many."""
    with Server(smollm_path if BACKEND == "cpu" else small_stand_in(tiny_path, smollm_path), "--threads", 2, "--kv-memory", "512M", "--max-context", 2048,
                "--served-model-name", "smol", "--served-model-name", "gpt-*") as server:
        yield server


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    model = real_model(QWEN)
    if BACKEND != "cpu":
        model = make_model(tiny_config(n_vocab=151936), tmp_path_factory.mktemp("models") / QWEN, model)
    with Server(model, "--threads", 2, "--kv-memory", "256M", "--max-context", 2048) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_path(smollm_path, tmp_path_factory):
    """A model of random weights with SmolLM2's tokenizer and chat template."""
    return make_model(tiny_config(), tmp_path_factory.mktemp("models") / "tiny.gguf", smollm_path)


@pytest.fixture(scope="session")
def tiny(tiny_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "128M") as server:
        yield server


@pytest.fixture(scope="session")
def script_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.json"
    path.write_text(json.dumps(script_rules.script(), ensure_ascii=False))
    return path


@pytest.fixture(scope="session")
def scripted(tiny_path, script_path):
    """Answers by the rules of script_rules.py."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", script_path, "--keepalive-ms", 200,
                "--stall-timeout-ms", 2000) as server:
        yield server


@pytest.fixture(scope="session")
def agent_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "agent.jinja"
    path.write_text(script_rules.AGENT_TEMPLATE)
    return path


@pytest.fixture(scope="session")
def agent(tiny_path, script_path, agent_template):
    """The same rules, of a model that takes tools and reasons."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", script_path, "--chat-template",
                agent_template) as server:
        yield server


@pytest.fixture
def new_scripted(tiny_path, script_path):
    """Makes servers of the same rules with other options."""
    def make(*options, **arguments):
        return Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", script_path, *options, **arguments)
    return make


@pytest.fixture(scope="session")
def parity_model(tmp_path_factory):
    """Makes one of the random models whose shapes lie in tests/data/parity."""
    from harness import ROOT
    folder = tmp_path_factory.mktemp("parity")

    def make(name):
        config = ROOT / "tests" / "data" / "parity" / f"{name}.json"
        if not config.exists():
            missing(f"the configuration {config}")
        return make_model(config, folder / f"{name}.gguf")
    return make
