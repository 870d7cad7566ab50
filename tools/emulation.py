"""What arm64_check.py and avx512_check.py share: packages of Debian that are unpacked and not installed, and what tests print."""
import os
import re
import subprocess

SKIPPED = 77


class Missing(Exception):
    """Something that is not the code's fault: the check is skipped."""


def run(command, what, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", **options)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).split("\n")
        raise Missing(f"{what} fails: {lines[-1][:300]}")
    return done.stdout


def apt_settings(folder, architecture, sources=None):
    """For apt-get -c: the machine's package sources (or those of a file), proxies and keys, but its own state, and no hooks
    of the machine."""
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    lines = ["#clear APT::Architectures;", f'APT::Architectures {{ "{architecture}"; }};', f'APT::Architecture "{architecture}";',
             "#clear APT::Update::Pre-Invoke;", "#clear APT::Update::Post-Invoke;",
             "#clear APT::Update::Post-Invoke-Success;", f'Dir::State "{folder}/state";', 'Dir::State::lists "lists";',
             f'Dir::State::status "{folder}/state/status";', f'Dir::Cache "{folder}/cache";', f'Dir::Log "{folder}/log";',
             'Debug::NoLocking "1";', 'Acquire::Languages "none";', 'Acquire::Retries "2";']
    if os.geteuid() == 0:
        lines.append('APT::Sandbox::User "root";')  # the usual user cannot write in this folder
    if sources:
        lines += [f'Dir::Etc::SourceList "{sources}";', 'Dir::Etc::SourceParts "/dev/null";']
    settings = folder / "apt.conf"
    settings.write_text("\n".join(lines) + "\n")
    return settings


def count_results(text, status):
    """Tests that passed and failed, from what cmocka prints and the program's exit status."""
    passed = int(([0] + re.findall(r"\[  PASSED  \] (\d+) test", text))[-1])
    failed = int(([0] + re.findall(r"\[  FAILED  \] (\d+) test", text))[-1])
    return passed, failed or int(status != 0 or passed == 0)
