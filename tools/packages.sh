#!/usr/bin/env bash
# Says which Debian/Ubuntu packages a step needs and installs the missing ones.  tools/packages.sh build|test|ci|aarch64|wasm
set -euo pipefail
build="g++ cmake ninja-build libhwy-dev zlib1g-dev libcli11-dev libfmt-dev nlohmann-json3-dev"
test="$build libgtest-dev"
ci="$test ccache mold pkg-config codespell libbenchmark-dev python3-venv python3-dev git"
aarch64="$test g++-aarch64-linux-gnu qemu-user"
case "${1:-build}" in build) want=$build;; test) want=$test;; ci) want=$ci;; aarch64) want=$aarch64;; wasm) want=$test;; *) echo "usage: packages.sh build|test|ci|aarch64|wasm"; exit 2;; esac
if [ "${1:-}" = ci ]; then # the newest clang that the distribution has; libFuzzer and sanitizers come with libclang-rt
  for v in 19 18 17 16; do apt-cache show clang-$v >/dev/null 2>&1 && { want="$want clang-$v libclang-rt-$v-dev"; break; }; done
fi
if [ "${1:-}" = wasm ]; then
  for v in 19 18 17 16; do apt-cache show libc++-$v-dev-wasm32 >/dev/null 2>&1 && { want="$want wasi-libc nodejs clang-$v lld-$v libc++-$v-dev-wasm32 libc++abi-$v-dev-wasm32 libclang-rt-$v-dev-wasm32"; break; }; done
fi
command -v dpkg-query >/dev/null || { echo "This script knows Debian and Ubuntu only. Install by hand: $want"; exit 0; }
missing=(); for p in $want; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p"); done
echo "system packages needed: $want"
[ ${#missing[@]} = 0 ] && { echo "all installed"; exit 0; }
echo "installing: ${missing[*]}"
sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
