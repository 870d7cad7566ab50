"""A peer's server in a process of its own."""
import subprocess
import time

import httpx


class Server:
    """Starts `command`, which serves at `url`, and waits until its /health answers; at most `seconds`."""

    def __init__(self, name, command, url, seconds, env=None):
        self.url = url
        self.process = subprocess.Popen([str(c) for c in command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > until or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit(f"compare: {name} did not start")
            time.sleep(0.2)

    def answers(self):
        try:
            return httpx.get(self.url + "/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
