"""A program of tests/tools that answers jobs: lines of JSON in, a line of JSON out for each that is asked."""
import json
import subprocess


class Probe:
    def __init__(self, *command, **options):
        self.program = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8", **options)

    def tell(self, job):
        self.program.stdin.write(json.dumps(job) + "\n")
        self.program.stdin.flush()

    def ask(self, job):
        self.tell(job)
        line = self.program.stdout.readline()
        if not line:
            raise RuntimeError(f"the probe ended, status {self.program.wait()}, at {json.dumps(job)[:2000]}")
        return json.loads(line)
