"""`tandem serve` with --tls-cert and --tls-key, as clients and operators meet it."""
import json
import os
import shutil
import socket
import subprocess

import httpx
import openai
import pytest

from harness import PATIENCE, TANDEM, SecureServer, failing_server, make_certificate, metric

pytestmark = pytest.mark.cpu_only("it is about the gateway")


@pytest.fixture(scope="module")
def secure(tiny_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    with SecureServer(tiny_path, folder, "--threads", 1, "--kv-memory", "64M", "--listen", f"unix:{folder}/socket",
                      listen="127.0.0.1:0") as server:
        server.http = server.new_http()
        server.wait_ready()
        server.socket = folder / "socket"
        yield server


def test_the_official_client(secure):
    with httpx.Client(verify=secure.context()) as http:
        client = openai.OpenAI(base_url=f"{secure.url}/v1", api_key="unused", max_retries=0, http_client=http)
        prompt = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        whole = client.completions.create(**prompt).choices[0].text
        stream = client.completions.create(**prompt, stream=True)
        assert "".join(c.choices[0].text for c in stream if c.choices) == whole


def test_it_says_https(secure):
    assert f"url=https://127.0.0.1:{secure.port}" in secure.log()


def test_curl(secure):
    if not shutil.which("curl"):
        pytest.skip("skip: curl is not here")
    done = subprocess.run(["curl", "-sS", "--cacert", secure.cert, "--http2", "-w", " %{http_version} %{ssl_verify_result}",
                           f"{secure.url}/health"], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.stdout.endswith(" 1.1 0"), done.stdout + done.stderr


def test_our_own_client(secure):
    """bench-serve, through libcurl."""
    base = [TANDEM, "bench-serve", f"{secure.url}/v1", "--concurrency", 1, "--requests", 2, "--max-tokens", 2, "--json", "-", "--quiet"]
    done = subprocess.run([*map(str, base), "--ca-file", secure.cert], capture_output=True, text=True, timeout=120 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)
    distrustful = subprocess.run([*map(str, base)], capture_output=True, text=True, timeout=120 * PATIENCE)
    assert distrustful.returncode != 0, "the certificate is signed by nobody it knows"


def test_plain_text_is_told(secure):
    reply = httpx.get(f"http://127.0.0.1:{secure.port}/health")
    assert reply.status_code == 400
    assert "https" in reply.json()["error"]["message"]


def test_unix_sockets_stay_plain(secure):
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(secure.socket)), base_url="http://tandem") as http:
        assert http.get("/health").status_code == 200


def test_metrics(secure):
    before = metric(secure.metrics(), "tandem_tls_handshake_failures_total")
    with socket.create_connection(("127.0.0.1", secure.port)) as raw:
        raw.sendall(b"\x16\x03\x01\x00\x05hello")
        while raw.recv(1000):
            pass
    secure.wait_for(lambda: metric(secure.metrics(), "tandem_tls_handshake_failures_total") == before + 1, "it is counted")
    expires = metric(secure.metrics(), "tandem_tls_certificate_expires_seconds")
    assert abs(expires - secure.cert.stat().st_mtime - 2 * 86400) < 60


def test_what_cannot_be_started(tiny_path, tmp_path):
    cert, key, other = (tmp_path / name for name in ("cert.pem", "key.pem", "other.pem"))
    make_certificate(cert, key)
    make_certificate(tmp_path / "unused.pem", other)
    for options, words in (
            (["--tls-cert", cert], ["--tls-key"]),
            (["--tls-key", key], ["--tls-cert"]),
            (["--tls-cert", tmp_path / "none.pem", "--tls-key", key], ["--tls-cert", "none.pem", "No such file"]),
            (["--tls-cert", cert, "--tls-key", tmp_path / "none.pem"], ["--tls-key", "none.pem", "No such file"]),
            (["--tls-cert", key, "--tls-key", key], ["--tls-cert", "no start line"]),
            (["--tls-cert", cert, "--tls-key", other], ["--tls-key", "mismatch"])):
        with failing_server(tiny_path, *options) as (status, text):
            assert status == 2, text
            for word in words:
                assert word in text, text


def test_warnings(tiny_path, tmp_path):
    """Of a key that everybody may read, and of a certificate whose time is over."""
    server = SecureServer(tiny_path, tmp_path, "--threads", 1, "--kv-memory", "64M", listen="127.0.0.1:0")
    make_certificate(server.cert, server.key, -1)
    os.chmod(server.key, 0o644)
    with server:
        assert "may read the TLS key" in server.log() and "mode=644" in server.log()
        assert "certificate has expired" in server.log()
