#!/usr/bin/env bash
# Builds what `dev new-op` writes, in a copy of the sources, and runs its judges.  check_scaffold.sh [PRESET, default ci]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd); copy=$root/build/scaffold; preset=${1:-ci}
mkdir -p "$copy"; find "$copy" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
(cd "$root" && git ls-files -co --exclude-standard | while read -r f; do [ ! -e "$f" ] || echo "$f"; done | tar -cf - -T -) | tar -C "$copy" -xf -
cd "$copy"; export CCACHE_BASEDIR=$copy CCACHE_NOHASHDIR=1
tools/new_op.py double_up
cmake --preset "$preset" --log-level=WARNING -DKEEL_BENCH=OFF >/dev/null
cmake --build --preset "$preset" --target keel_test_null keel_test_ops -- --quiet
ctest --preset "$preset" -R 'double_up|Registry' --no-tests=error | tail -n 15
