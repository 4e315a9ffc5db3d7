#!/bin/sh
# Builds Keel with CUDA, runs the device judges and measures, in under 10 minutes; for a machine with an NVIDIA GPU and no network.
#   tools/gpu_check.sh [--prebuilt FOLDER] [--only build|test|sanitize|bench|models|peers] [--tool TOOL]
# By name only: `peers`, Keel and PyTorch in turns, five minutes more; `sanitize`, one TOOL of tools/sanitize.sh, or nan, memcheck, racecheck and
# initcheck in turn, up to twelve.
# Packages that are missing there are taken from .gpu-deps, which `tools/gpu_check.sh --collect` fills where they are installed.
set -eu
cd "$(dirname "$0")/.."
build=${KEEL_GPU_BUILD:-build/cuda} only= collect= tool=
while [ $# -gt 0 ]; do
  case $1 in
    --prebuilt) build=$2 prebuilt=1; shift ;;
    --only) only=$2; shift ;;
    --tool) tool=$2; shift ;;
    --collect) collect=1 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
if [ -n "$collect" ]; then
  mkdir -p .gpu-deps/include .gpu-deps/lib
  cp -r /usr/include/hwy /usr/include/gtest .gpu-deps/include/
  cp /usr/lib/*/libgtest.a /usr/lib/*/libgtest_main.a .gpu-deps/lib/
  # The command line, for whole networks: headers, their CMake packages, zlib.
  cp -r /usr/include/CLI /usr/include/fmt /usr/include/nlohmann /usr/include/zlib.h .gpu-deps/include/
  cp /usr/include/zconf.h .gpu-deps/include/ 2>/dev/null || cp /usr/include/*/zconf.h .gpu-deps/include/
  cp /usr/lib/*/libz.a .gpu-deps/lib/
  mkdir -p .gpu-deps/share/cmake
  cp -r /usr/share/cmake/CLI11 /usr/share/cmake/nlohmann_json .gpu-deps/share/cmake/
  for folder in /usr/lib/*/cmake/fmt; do # its package counts folders to find the library
    lib=$(dirname "$(dirname "$folder")"); mkdir -p ".gpu-deps${lib#/usr}/cmake"
    cp -r "$folder" ".gpu-deps${lib#/usr}/cmake/"; cp "$lib"/libfmt.* ".gpu-deps${lib#/usr}/"
  done
  du -sh .gpu-deps
  exit 0
fi
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }
say() { printf '\n== %s (%ss)\n' "$1" "$(($(date +%s) - start))"; }
start=$(date +%s)

say "machine"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
if wanted build && [ -z "${prebuilt:-}" ]; then
  say "build"
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DKEEL_CUDA=ON -DKEEL_BENCH=ON -DCMAKE_PREFIX_PATH="$PWD/.gpu-deps" > /dev/null
  cmake --build "$build" --target keel_cuda keel_test_device keel_bench_device keel_cli
  if cmake --build "$build" --target help | grep -q keel_kernel_trace; then cmake --build "$build" --target keel_kernel_trace
  else echo "no kernel trace: CUPTI was not found"; fi
fi
KEEL_BACKEND_PATH=$build
export KEEL_BACKEND_PATH
status=0
if wanted test; then
  say "device judges"
  "$build/tests/keel_test_device" --gtest_brief=1 || status=1
fi
if [ "$only" = sanitize ]; then
  for one in ${tool:-nan memcheck racecheck initcheck}; do
    say "sanitizer $one"
    case $one in
      racecheck) seconds=250 ;;
      *) seconds=150 ;;
    esac
    tools/sanitize.sh "$build/tests/keel_test_device" "$one" --seconds $seconds || status=1
  done
fi
if wanted bench; then
  say "bandwidth and products"
  "$build/keel_bench_device"
fi
if wanted models; then
  say "whole networks"
  keel=$build/apps/keel/keel
  for row in "gpt2 --batch 16 --clip 1" "gpt2 --batch 32 --clip 1" "resnet50 --image 32 --batch 128" "resnet50 --image 32 --batch 512 --small-stem" \
             "resnet50 --image 224 --batch 128" "bert --steps 20"; do
    for how in "" --compile; do "$keel" bench model $row $how --device cuda --dtype bf16 --seconds 3 --json || status=1; done
  done
fi
if [ "$only" = peers ]; then python3 bench/peers/gpu.py --keel "$build/apps/keel/keel" || status=1; fi
say "end, status $status"
exit $status
