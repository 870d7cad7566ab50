"""The prefix: what is in it, what the libraries show, and programs compiled against it."""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT, run

HEADER = (ROOT / "include" / "tandem.h").read_text()
FUNCTIONS = set(re.findall(r"^TANDEM_API [^;]*?\b(tandem_\w+)\(", HEADER, flags=re.M))
EXAMPLES = ["generate", "chat", "many", "structured", "adapters"]
LISTED = [line for line in (ROOT / "lib" / "tandem.symbols").read_text().split("\n") if line]
MACOS = sys.platform == "darwin"
SHARED = "libtandem.0.dylib" if MACOS else "libtandem.so.0"
FLAGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def compiler():
    return os.environ.get("CC", "cc")


def flags(environment, *words):
    return shlex.split(run("pkg-config", *words, "tandem", env=environment))


# ---- what is there ----

def test_files(prefix):
    wanted = ["bin/tandem", f"lib/{SHARED}", "lib/libtandem.a", "include/tandem.h", "lib/pkgconfig/tandem.pc",
              "lib/cmake/tandem/tandemConfig.cmake", "share/doc/tandem/LIBRARY.md", "share/doc/tandem/examples/chat.c",
              "share/man/man1/tandem.1"]
    assert [name for name in wanted if not (prefix / name).exists()] == []
    assert (prefix / "lib" / "tandem" / "tandem_mlx.so").exists() == (BUILD / "tandem_mlx.so").exists()


@pytest.mark.skipif(MACOS, reason="systemd")
def test_units_name_the_prefix(prefix):
    unit = (prefix / "lib" / "systemd" / "system" / "tandem.service").read_text()
    assert f"ExecStart={prefix}/bin/tandem serve" in unit and "/usr/local" not in unit


def test_versions_agree(prefix, environment):
    version = run(prefix / "bin" / "tandem", "version").split()[1]
    assert run("pkg-config", "--modversion", "tandem", env=environment).strip() == version
    assert f'version = "{version}"' in (ROOT / "python" / "pyproject.toml").read_text()


def test_the_folder_of_libraries_may_lie_deeper(tmp_path):
    """As distributions have it: lib/x86_64-linux-gnu."""
    run("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DTANDEM_MLX=OFF", "-DCMAKE_INSTALL_LIBDIR=lib/deep")
    for name, begins, depth in (("tandem.pc", "prefix=${pcfiledir}/", "deep/pkgconfig"),
                                ("tandemConfig.cmake", "${CMAKE_CURRENT_LIST_DIR}/", "deep/cmake/tandem")):
        text = (tmp_path / "generated" / name).read_text()
        up = re.search(re.escape(begins) + r"([./]*)", text).group(1)
        assert (pathlib.PurePosixPath("/usr/lib") / depth / up).parts.count("..") == len(pathlib.PurePosixPath("lib", depth).parts)


# ---- what the libraries show ----

def symbols(*words):
    names = set()
    for line in run("nm", *words).split("\n"):
        fields = line.split()
        if len(fields) == 3 and fields[1] in "TDBRWV":
            names.add(fields[2].lstrip("_" if MACOS else "").split("@")[0])
    return names


def test_the_list_of_symbols_is_that_of_the_header():
    listed = [line.split()[1] for line in LISTED]
    assert sorted(listed) == sorted(FUNCTIONS) and len(FUNCTIONS) > 20


def test_the_newest_version_is_that_of_the_header():
    versions = [int(line.split()[0].removeprefix("TANDEM_")) for line in LISTED]
    assert versions == sorted(versions) and versions[-1] == int(re.search(r"TANDEM_API_VERSION (\d+)", HEADER).group(1))


def test_shared_library_shows_the_header_alone(prefix):
    assert symbols(*(["-gU"] if MACOS else ["-D", "--defined-only"]), prefix / "lib" / SHARED) == FUNCTIONS


def test_static_library_shows_the_header_alone(prefix):
    assert symbols(*(["-gU"] if MACOS else ["-g", "--defined-only"]), prefix / "lib" / "libtandem.a") == FUNCTIONS


@pytest.mark.skipif(MACOS, reason="versions of symbols are ELF's")
def test_symbols_have_versions(prefix):
    table = run("nm", "-D", "--defined-only", prefix / "lib" / SHARED)
    assert all(f"{name}@@{version}\n" in table + "\n" for version, name in (line.split() for line in LISTED))
    assert "SONAME" in (dump := run("objdump", "-p", prefix / "lib" / SHARED)) and SHARED in dump


# ---- programs ----

@pytest.fixture(scope="session")
def examples(prefix, environment, tmp_path_factory):
    """Compiled with pkg-config, from the installed copies."""
    folder = tmp_path_factory.mktemp("examples")
    for name in EXAMPLES:
        run(compiler(), "-std=c11", *FLAGS, "-D_POSIX_C_SOURCE=200809L",
            prefix / "share" / "doc" / "tandem" / "examples" / f"{name}.c", *flags(environment, "--cflags", "--libs"),
            f"-Wl,-rpath,{prefix / 'lib'}", "-o", folder / name)
    return folder


def test_generate(examples, model):
    done = subprocess.run([examples / "generate", model, "Once upon a time"], capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith(b"Once upon a time")
    assert b"16 tokens of prompt" in done.stderr
    failed = subprocess.run([examples / "generate", "/nowhere.gguf", "x"], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "/nowhere.gguf" in failed.stderr


def test_chat(examples, model):
    done = subprocess.run([examples / "chat", model], input=b"Hi\nBye\n", capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") >= 2 and done.stderr == b""


def test_many(examples, model):
    assert run(examples / "many", model) == "8 whole, 8 cancelled\n"


def test_structured(examples, model):
    answer = json.loads(run(examples / "structured", model, "It is sunny."))
    assert answer["sky"] in ("sunny", "cloudy", "rainy") and -60 <= answer["degrees"] <= 60


def test_adapters(examples, model, adapter):
    [plain, adapted] = run(examples / "adapters", model, "Once", adapter).split(f"\n{adapter}: ")
    assert plain.startswith("the model: Once") and adapted.startswith("Once") and plain[11:] != adapted.rstrip("\n")
    failed = subprocess.run([examples / "adapters", model, "Once", "/nowhere"], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and "/nowhere" in failed.stderr


@pytest.mark.parametrize("target", ["tandem::tandem", "tandem::static"])
def test_cmake_package(prefix, environment, model, tmp_path, target):
    source = shutil.copytree(prefix / "share" / "doc" / "tandem" / "examples", tmp_path / "source")
    lists = source / "CMakeLists.txt"
    lists.write_text(lists.read_text().replace("tandem::tandem", target))
    run("cmake", "-S", source, "-B", tmp_path / "build", env=environment)
    run("cmake", "--build", tmp_path / "build", "--target", "many", env=environment)
    assert run(tmp_path / "build" / "many", model) == "8 whole, 8 cancelled\n"


def test_static_library(prefix, environment, model, tmp_path):
    """With functions of the program's own that are named as some of the library's are inside."""
    source = tmp_path / "own.c"
    source.write_text('int buf_append(int x) { return x; }\nint json_parse(void) { return 7; }\n'
                      'int own(void) { return buf_append(json_parse()); }\n')
    libs = [f for f in flags(environment, "--libs", "--static") if f != "-ltandem"]
    run(compiler(), "-std=c11", prefix / "share" / "doc" / "tandem" / "examples" / "structured.c", source,
        *flags(environment, "--cflags"), prefix / "lib" / "libtandem.a", *libs, "-o", tmp_path / "structured")
    assert json.loads(run(tmp_path / "structured", model, "It is sunny."))["sky"]


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler is here")
def test_header_is_cpp_too(environment, prefix, tmp_path):
    source = tmp_path / "x.cpp"
    source.write_text("#include <tandem.h>\nint main() { tandem_request r; tandem_request_init(&r, sizeof r);\n"
                      "return tandem_api_version() != TANDEM_API_VERSION || r.max_tokens != -1; }\n")
    run("c++", "-std=c++11", *FLAGS, source, *flags(environment, "--cflags", "--libs"), f"-Wl,-rpath,{prefix / 'lib'}",
        "-o", tmp_path / "x")
    run(tmp_path / "x")


def test_header_alone_is_c(tmp_path):
    source = tmp_path / "x.c"
    source.write_text('#include "tandem.h"\nint main(void) { return 0; }\n')
    run(compiler(), "-std=c11", *FLAGS, "-I", ROOT / "include", "-fsyntax-only", source)
