#!/bin/sh
# Installs missing system packages: `build` for the program, `test` for its tests, `mlx` for its mlx backend, `arm64` for
# compiling and running tests for arm64 on another processor, `avx512` for emulating a processor with AVX-512 (both apt
# only). Quiet and quick when nothing is missing.
set -eu

what="${1:-build}"

build_apt="cmake ninja-build gcc libc6-dev pkg-config libuv1-dev libjson-c-dev libssl-dev libxxhash-dev libutf8proc-dev libpcre2-dev libcurl4-openssl-dev libsqlite3-dev python3 python3-pip ca-certificates"
test_apt="libcmocka-dev python3-venv clang-format binutils g++"
mlx_apt="g++ python3-venv"
arm64_apt="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
avx512_apt="bochs bochs-term vgabios binutils"
build_brew="cmake ninja pkg-config libuv json-c openssl@3 xxhash utf8proc pcre2 sqlite python@3 mlx"
test_brew="cmocka clang-format"

# Node's clients are among the tests; an npm of another source than the packages will do.
command -v npm >/dev/null 2>&1 || { test_apt="$test_apt nodejs npm"; test_brew="$test_brew node"; }

cargo="$(dirname "$0")/cargo.sh"

has_rust() { "$cargo" find >/dev/null; }

rust_apt() {
    missing="cargo"
    as_root apt-get update -qq >&2
    "$cargo" packages || true
}

need_rust() {
    has_rust && return 0
    echo "install_deps: structured output needs cargo $("$cargo" least) or newer, which no package here brings (Debian 12 and 13 have one in their" >&2
    echo "install_deps: security updates); this does:" >&2
    echo "    curl -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else
        echo "install_deps: these packages are missing and this user cannot install them: $missing" >&2
        echo "install_deps: as root: apt-get install $missing" >&2
        exit 1
    fi
}

# upgrade: packages that may be here, but are too old.
with_apt() {
    missing="$upgrade"
    for package in "$@"; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    echo "installing: ${missing# }"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

with_brew() {
    missing=""
    installed=" $(brew list --formula -1 | tr '\n' ' ') "
    for package in "$@"; do
        case "$installed" in *" $package "* | *" $package@"*) ;; *) missing="$missing $package" ;; esac
    done
    [ -z "$missing" ] && return 0
    echo "installing: ${missing# }"
    # shellcheck disable=SC2086
    brew install -q $missing
}

if command -v apt-get >/dev/null 2>&1; then
    upgrade=""
    case "$what" in build | test) has_rust || upgrade=$(rust_apt) ;; esac
    # shellcheck disable=SC2086
    case "$what" in build) with_apt $build_apt ;; test) with_apt $build_apt $test_apt ;; arm64) with_apt $arm64_apt ;; avx512) with_apt $avx512_apt ;; mlx) with_apt $mlx_apt ;; esac
elif command -v brew >/dev/null 2>&1; then
    case "$what" in build | test) has_rust || build_brew="$build_brew rust" ;; esac
    # shellcheck disable=SC2086
    case "$what" in build) with_brew $build_brew ;; test) with_brew $build_brew $test_brew ;; mlx) with_brew mlx ;; esac
else
    for tool in cmake ninja pkg-config python3; do
        command -v "$tool" >/dev/null 2>&1 || { echo "install_deps: $tool is missing, and neither apt-get nor brew is here" >&2; exit 1; }
    done
fi
case "$what" in build | test) need_rust ;; esac
