"""The server in the background, for tests and notebooks."""
import os
import pathlib
import re
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from typing import Any, Mapping, Optional, Union

from ._library import Error, program_path


def _opener() -> urllib.request.OpenerDirector:
    """Without the proxies of the environment, and whatever the certificate's name: it is our own server, on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads the system's certificates first, for 40 ms
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


_open = _opener().open


def _end(process: "subprocess.Popen[bytes]", patience: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server:
    """`tandem serve MODEL` on a free port. When the with statement is entered, or start() returns, the model is ready.

        with tandem.Server("model.gguf", kv_memory="2GiB") as server:
            client = openai.OpenAI(base_url=server.base_url, api_key="unused")

    options: those of `tandem serve`, "_" for "-"; True for one without a value. Their words are in docs/OPTIONS.md."""

    def __init__(self, model: Union[str, pathlib.Path], *, host: str = "127.0.0.1", port: int = 0,
                 program: Optional[str] = None, env: Optional[Mapping[str, str]] = None, timeout: float = 120,
                 stop_timeout: float = 60, **options: Any):
        self.model, self.host, self.port = str(model), host, port
        self._program, self._env, self._options = program, dict(env or {}), options
        self._timeout, self._stop_timeout = timeout, stop_timeout
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._folder: Optional["tempfile.TemporaryDirectory[str]"] = None
        self._finalizer: Any = None

    # ---- what it is ----

    @property
    def url(self) -> str:
        scheme = "https" if self._options.get("tls_cert") else "http"
        return f"{scheme}://{'[' + self.host + ']' if ':' in self.host else self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """For clients of OpenAI's."""
        return self.url + "/v1"

    @property
    def pid(self) -> Optional[int]:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """What it has written until now."""
        return self._log_file().read_text(errors="replace") if self._folder else ""

    def _log_file(self) -> pathlib.Path:
        assert self._folder
        return pathlib.Path(self._folder.name) / "log"

    # ---- start and stop ----

    def _command(self) -> "list[str]":
        level = self._options.get("log_level")
        if not self.port and level in ("warn", "error"):
            raise Error(f"with log_level={level} nothing tells which free port was taken: name one with port", "INVALID")
        program = self._program or program_path()
        if not program:
            raise Error("the program tandem was not found; TANDEM may name it", "NOT_FOUND")
        words = [program, "serve", self.model, "--host", self.host, "--port", str(self.port), "--log-format", "logfmt"]
        for name, value in self._options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                words.append(flag)
            elif isinstance(value, (list, tuple)):
                words += [word for item in value for word in (flag, str(item))]
            elif value is not None:
                words.append(f"{flag}={'false' if value is False else value}")
        return words

    def start(self) -> "Server":
        if self._process:
            raise Error("the server runs already", "INVALID")
        command = self._command()
        self._folder = tempfile.TemporaryDirectory(prefix="tandem-server-")
        with self._log_file().open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             env={**os.environ, **self._env})
        self._finalizer = weakref.finalize(self, _end, self._process, self._stop_timeout)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + self._timeout
        while not self._is_ready():
            assert self._process
            if self._process.poll() is not None:
                raise Error(f"the server ended with status {self._process.returncode}:\n{self.log[-2000:]}", "INTERNAL")
            if time.monotonic() > until:
                raise Error(f"the server was not ready after {self._timeout} s:\n{self.log[-2000:]}", "DEADLINE")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        if not self.port:
            found = re.search(r"event=listening .*?\bport=(\d+)", self.log)
            self.port = int(found.group(1)) if found else 0
        if not self.port:
            return False
        try:
            with _open(self.url + "/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> Optional[int]:
        """Lets what runs finish, and ends it; its exit status. None: it did not run."""
        if not self._process:
            return None
        self._finalizer()
        status = self._process.returncode
        self._process = None
        return status

    def __enter__(self) -> "Server":
        return self if self._process else self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()
