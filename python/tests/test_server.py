import json
import os
import signal
import socket
import subprocess
import urllib.request

import pytest
import tandem

OPTIONS = dict(backend="cpu", kv_memory="16MiB", threads=1)


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_it_serves_and_stops(path):
    with tandem.Server(path, **OPTIONS) as server:
        assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
        answer = post(server.base_url + "/completions", {"prompt": "Once", "max_tokens": 5})
        assert answer["usage"]["completion_tokens"] <= 5
        assert "listening" in server.log
        pid = server.pid
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_proxy_of_the_environment_is_not_asked(path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    tandem.Server(path, timeout=30, **OPTIONS).start().stop()


def test_it_ends_with_status_zero(path):
    server = tandem.Server(path, **OPTIONS).start()
    assert server.stop() == 0
    assert server.stop() is None


def test_a_quiet_log_needs_a_port(path):
    with pytest.raises(tandem.Error, match="name one with port"):
        tandem.Server(path, log_level="warn", **OPTIONS).start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tandem.Server(path, port=port, log_level="warn", **OPTIONS) as server:
        assert server.port == port and "listening" not in server.log


def test_over_tls(path, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nobody",
                    "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    with tandem.Server(path, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem", **OPTIONS) as server:
        assert server.base_url == f"https://127.0.0.1:{server.port}/v1"


def test_a_model_that_is_not_there():
    with pytest.raises(tandem.Error, match="there is no file '/nowhere/model.gguf'"):
        tandem.Server("/nowhere/model.gguf").start()


def test_an_option_that_is_unknown(path):
    with pytest.raises(tandem.Error, match="colour"):
        tandem.Server(path, colour="red").start()


def test_a_server_that_was_killed(path):
    server = tandem.Server(path, **OPTIONS).start()
    os.kill(server.pid, signal.SIGKILL)
    assert server.stop() == -signal.SIGKILL
