#!/bin/sh
# cargo for llguidance, new enough for the rust-version of grammar/llguidance/Cargo.toml.
#
#     cargo.sh least       that version, "1.87"
#     cargo.sh find        the path of one that is here: of PATH, of rustup, or beside the system's default, as
#                          Ubuntu has them (cargo-1.97); fails without one
#     cargo.sh packages    packages of apt that bring one: of Debian's and Ubuntu's names the first that is new enough
set -eu

minor=$(sed -n 's/^rust-version = "1\.\([0-9]*\)"$/\1/p' "$(dirname "$0")/../grammar/llguidance/Cargo.toml")

is_enough() { # of "1.N" and what follows
    found=$(printf '%s' "$1" | sed -n 's/^1\.\([0-9]*\).*/\1/p')
    [ "${found:-0}" -ge "$minor" ]
}

find_cargo() {
    for cargo in "$(command -v cargo || true)" "${HOME:-}/.cargo/bin/cargo" /usr/bin/cargo-1.*; do
        if [ -x "$cargo" ] && is_enough "$("$cargo" --version 2>/dev/null | cut -d ' ' -f 2)"; then
            echo "$cargo"
            return 0
        fi
    done
    return 1
}

find_packages() {
    for cargo in cargo-web $(apt-cache search --names-only '^cargo-1\.[0-9]+$' | cut -d ' ' -f 1 | sort -V) cargo; do
        if is_enough "$(apt-cache policy "$cargo" | sed -n 's/^ *Candidate: //p')"; then
            echo "rustc${cargo#cargo} $cargo"
            return 0
        fi
    done
    return 1
}

case "${1:-}" in
least) echo "1.$minor" ;;
find) find_cargo ;;
packages) find_packages ;;
*)
    echo "usage: cargo.sh least|find|packages" >&2
    exit 2
    ;;
esac
