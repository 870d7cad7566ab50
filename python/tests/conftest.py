"""The package as it is installed: `tandem` is on the PATH, TANDEM_TEST_MODEL names a small random model with a byte-level
vocabulary, TANDEM_TEST_ADAPTER an adapter of it."""
import os

import pytest
import tandem

TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@pytest.fixture(scope="session")
def path():
    return os.environ["TANDEM_TEST_MODEL"]


@pytest.fixture(scope="session")
def adapter():
    return os.environ["TANDEM_TEST_ADAPTER"]


@pytest.fixture(scope="session")
def model(path):
    with tandem.Model(path, backend="cpu", kv_memory=1 << 24, threads=1, chat_template=TEMPLATE, tool_format="hermes") as m:
        yield m
