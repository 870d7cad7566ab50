#!/usr/bin/env python3
"""make check: the rules of the house that a program can read off the code.

    include      a folder includes only what its row of FOLDERS allows; third-party headers only where they belong
    banned       functions that are not to be used
    size         lines per file and per function, complexity per function (allow-list in allow.json, only shrinking)
    globals      no writable file-level state in the object files, but what allow.json names
    conditional  no #if in logic
    format       clang-format
    docs         generated documents equal what the program generates
    text         no absolute home paths or secrets in committed files

Prints one line per finding, `check: N rules passed, N failed` at the end; exit status 1 when any failed.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALLOW = json.loads((pathlib.Path(__file__).parent / "allow.json").read_text())

# folder -> folders it may include besides itself and base (DESIGN: source folders)
FOLDERS = {
    "base": "",
    "http": "", "wire": "", "tensor": "",
    "text": "tensor", "media": "", "hub": "http tensor", "backend": "tensor", "mcp": "http",
    "chat": "text tensor", "grammar": "text", "model": "tensor backend",
    "engine": "text grammar tensor backend model wire",
    "pipeline": "http wire tensor model text chat grammar media mcp",
    "gateway": "http wire tensor text chat model backend pipeline hub",
    "lib": "wire pipeline engine hub tensor text chat model backend",
    "api": "http pipeline gateway wire text chat tensor",
    "cli": "*",
}
# header prefix -> folders that may include it
THIRD_PARTY = {
    "uv.h": "base http mcp gateway cli", "json-c/": "base", "json.h": "base", "xxhash.h": "base", "openssl/": "base http",
    "curl/": "http", "pcre2.h": "text grammar", "utf8proc.h": "text", "llguidance": "grammar", "sqlite3.h": "gateway",
    "jpeglib.h": "media", "png.h": "media", "webp/": "media", "mlx/": "backend/mlx",
}
LIBC = set("""assert ctype errno fcntl fenv float inttypes limits locale math pthread poll regex sched signal stdalign stdarg
stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings termios time unistd dirent""".split())
LIBC_PREFIX = ("sys/", "netinet/", "arpa/", "linux/", "mach/")
SIMD = ("immintrin.h", "arm_neon.h", "cpuid.h")
BANNED = """strcpy strcat sprintf vsprintf strtok gets atoi atol atoll atof alloca strncpy strncat system popen tmpnam mktemp
rand srand setjmp longjmp""".split()

MAX_FILE, MAX_FUNCTION, MAX_COMPLEXITY, MAX_PARAMETERS = 1200, 120, 25, 8


def sources(folders=None):
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                             capture_output=True, check=True).stdout.split("\n")
    for name in tracked:
        if name.endswith((".c", ".h")) and (ROOT / name).exists():
            if folders is None or name.split("/")[0] in folders:
                yield name


def strip_comments(text):
    """Blanks comments and string contents, keeping line numbers."""
    def blank(match):
        token = match.group(0)
        if token.startswith(("/*", "//")):
            return re.sub(r"[^\n]", " ", token)
        return token[0] + " " * (len(token) - 2) + token[-1]
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def check_include():
    for name in sources(FOLDERS):
        folder = name.split("/")[0]
        allowed = FOLDERS[folder].split()
        for number, line in enumerate((ROOT / name).read_text().split("\n"), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not match:
                continue
            header, quoted = match.group(2), match.group(1) == '"'
            if quoted:
                target = header.split("/")[0]
                if target in FOLDERS:
                    if target != folder and target != "base" and "*" not in allowed and target not in allowed:
                        yield f"{name}:{number}: {folder}/ may not include {target}/"
                    if target != folder and "_internal.h" in header:
                        yield f"{name}:{number}: {header} is internal to {target}/"
                elif target == "include" or header in ALLOW["generated"]:
                    continue
                elif not (ROOT / header).exists():
                    yield f"{name}:{number}: \"{header}\" is not named from the root of the repository"
                continue
            stem = header[:-2] if header.endswith(".h") else header
            if stem in LIBC or header.startswith(LIBC_PREFIX) or (header in SIMD and folder in ("backend", "base")):
                continue
            if folder == "base" and name.startswith("base/sys_"):
                continue
            owner = next((v for k, v in THIRD_PARTY.items() if header.startswith(k)), None)
            if owner is None:
                yield f"{name}:{number}: <{header}> belongs to no known library"
            elif not any(name.startswith(o + "/") for o in owner.split()):
                yield f"{name}:{number}: <{header}> may be included only in: {owner}"


def check_banned():
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for name in sources():
        for number, line in enumerate(strip_comments((ROOT / name).read_text()).split("\n"), 1):
            match = pattern.search(line)
            if match:
                yield f"{name}:{number}: {match.group(1)} is banned"


def check_size():
    import lizard
    allowed = ALLOW["functions"]
    used = set()
    for name in sources():
        if name in ALLOW["generated"]:
            continue
        text = (ROOT / name).read_text()
        lines = text.count("\n")
        if lines > MAX_FILE:
            yield f"{name}: {lines} lines, at most {MAX_FILE}"
        if not name.endswith(".c"):
            continue
        for function in lizard.analyze_file.analyze_source_code(name, text).function_list:
            key = f"{name}:{function.name}"
            length = function.end_line - function.start_line + 1
            test = name.startswith("tests/")  # a test is a list of assertions, each of which counts as a branch
            if length <= MAX_FUNCTION and (test or function.cyclomatic_complexity <= MAX_COMPLEXITY):
                continue
            if key in allowed:
                used.add(key)
                continue
            yield (f"{name}:{function.start_line}: {function.name} has {length} lines and complexity "
                   f"{function.cyclomatic_complexity}, at most {MAX_FUNCTION} and {MAX_COMPLEXITY}")
    for key in sorted(set(allowed) - used):
        yield f"tools/check/allow.json: '{key}' is within the limits now: remove it"


def check_globals(build):
    """Symbols in writable sections. Constant tables of pointers lie in .data.rel.ro, which the loader makes read-only."""
    allowed = set(ALLOW["globals"])
    for library in sorted(build.glob("libtandem_*.a")):
        out = subprocess.run(["objdump", "-t", str(library)], text=True, capture_output=True).stdout
        source = "?"
        for line in out.split("\n"):
            member = re.match(r"^(\S+)\.o:\s+file format", line)
            if member:
                source = member.group(1)
            match = re.match(r"^[0-9a-f]+ \S?\s+[^ ]*\s+O (\.t?data|\.t?bss|\*COM\*)\S*\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$", line)
            if match and not line.split()[3].startswith(".data.rel.ro"):
                symbol = re.sub(r"\.\d+$", "", match.group(2))
                if f"{source}:{symbol}" not in allowed and not symbol.startswith("__"):
                    yield f"{library.name}:{source}: writable file-level state '{symbol}'"


def check_conditional():
    guard = re.compile(r"#\s*(ifndef TANDEM_\w+_H|ifdef __cplusplus)")
    for name in sources(FOLDERS):
        if name.startswith("base/sys_") or name in ALLOW["conditionals"]:
            continue
        for number, line in enumerate(strip_comments((ROOT / name).read_text()).split("\n"), 1):
            if re.match(r"\s*#\s*if", line) and not guard.search(line):
                yield f"{name}:{number}: a conditional in logic: {line.strip()}"


def check_format():
    names = [n for n in sources() if n not in ALLOW["generated"]]
    tool = pathlib.Path(sys.executable).parent / "clang-format"
    command = [str(tool) if tool.exists() else "clang-format", "--dry-run", "--ferror-limit=1", *names]
    out = subprocess.run(command, cwd=ROOT, text=True, capture_output=True).stderr
    for name in sorted(set(re.findall(r"^([^:\s]+\.[ch]):\d+", out, flags=re.M))):
        yield f"{name}: not formatted (make format)"


def check_docs(build):
    program = build / "tandem"
    for kind, path in (("options", "docs/OPTIONS.md"), ("api", "docs/API.md"), ("metrics", "docs/METRICS.md")):
        made = subprocess.run([str(program), "docs", kind], text=True, capture_output=True)
        committed = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        if made.returncode != 0 or made.stdout != committed:
            yield f"{path}: stale (make docs)"


def check_text():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()
    bad = re.compile(rb"/(?:root|home/[a-z]+)/[\w.]|/tmp/venv|pypi\.org|pythonhosted|registry\.npmjs|crates\.io|/work/")
    for name in tracked:
        path = ROOT / name
        if not path.is_file() or name == "tools/check/check.py":
            continue
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            match = bad.search(line)
            if match and path.suffix not in (".vec", ".lock"):  # a lock file names its default registry, mirrored or not
                yield f"{name}:{number}: a path or host of one machine: {match.group(0).decode()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--only", help="one rule")
    arguments = parser.parse_args()
    build = arguments.build if arguments.build.is_absolute() else ROOT / arguments.build
    rules = {"include": check_include, "banned": check_banned, "size": check_size,
             "globals": lambda: check_globals(build), "conditional": check_conditional, "format": check_format,
             "docs": lambda: check_docs(build), "text": check_text}
    failed = 0
    for name, rule in rules.items():
        if arguments.only and arguments.only != name:
            continue
        findings = list(rule())
        for finding in findings:
            print(f"{name}: {finding}")
        failed += bool(findings)
    total = 1 if arguments.only else len(rules)
    print(f"check: {total - failed} rules passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
