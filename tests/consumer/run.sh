#!/usr/bin/env bash
# Proves that the package can be consumed: static and shared, find_package, pkg-config and add_subdirectory, each compiler, from a prefix that was moved after the install.
# run.sh [COMPILER...], default: g++ and the newest clang >= 16 that is installed. KEEP=DIR keeps the work folder (DIR/static and DIR/shared are then usable prefixes).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
compilers=("$@")
if [ ${#compilers[@]} = 0 ]; then
  compilers=(g++); for v in 21 20 19 18 17 16; do command -v clang++-$v >/dev/null && { compilers+=(clang++-$v); break; }; done
fi
if [ -n "${KEEP:-}" ]; then work=$KEEP; rm -rf "$work"; mkdir -p "$work"; else work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; fi
quiet() { "$@" >"$work/log" 2>&1 || { tail -40 "$work/log"; echo "FAILED: $*"; exit 1; }; }

for kind in static shared; do
  [ $kind = shared ] && shared=ON || shared=OFF
  build=$root/build/consumer-$kind
  quiet cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=$shared -DKEEL_BUILD_TESTS=OFF -DKEEL_BUILD_APPS=OFF
  quiet cmake --build "$build" -j "${JOBS:-$(nproc)}"
  quiet cmake --install "$build" --prefix "$work/first" --strip
  rm -rf "$work/$kind"; mv "$work/first" "$work/$kind"
  prefix=$work/$kind; pc=$(dirname "$(find "$prefix" -name keel.pc)")
  if grep -rn "$root\|$work" "$prefix" --include='*.cmake' --include='*.pc'; then echo "FAILED: the installed package names a build path"; exit 1; fi
  for cxx in "${compilers[@]}"; do
    b=$work/$kind-$cxx
    quiet cmake -S "$here" -B "$b" -G Ninja -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix"
    quiet cmake --build "$b"; quiet "$b/consumer"
    echo "ok  find_package      $kind  $cxx"
    quiet "$cxx" -std=c++20 "$here/main.cpp" "$here/hygiene.cpp" -o "$b/pc" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs keel) -Wl,-rpath,"$(dirname "$pc")"
    quiet "$b/pc"
    echo "ok  pkg-config        $kind  $cxx"
    for flags in -O2 "-O3 -ffast-math" "-O0 -fno-exceptions -fno-rtti"; do # the scalar core needs no library and none of the compiler's good manners
      quiet "$cxx" -std=c++20 $flags -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" "$here/numerics.cpp" -o "$b/numerics"; quiet "$b/numerics"
    done
    echo "ok  numerics.h alone  $kind  $cxx"
  done
  backends=${pc%/pkgconfig}/keel; mkdir -p "$backends"; echo "no library" >"$backends/libkeel_cuda.so" # found, and so complained of
  quiet cmake -S "$here" -B "$work/$kind-backend" -G Ninja -DCMAKE_PREFIX_PATH="$prefix"; quiet cmake --build "$work/$kind-backend"
  "$work/$kind-backend/consumer" device | grep -q "does not load" || { echo "FAILED: a library in $backends is not found"; exit 1; }
  echo "ok  device library    $kind"
  if [ $kind = shared ]; then # only libc, libm, libstdc++, libgcc and the loader below core
    lib=$(find "$prefix" -name 'libkeel.so'); extra=$(ldd "$lib" | grep -vE 'linux-vdso|libc\.so|libm\.so|libstdc\+\+\.so|libgcc_s\.so|ld-linux' || true)
    [ -z "$extra" ] || { echo "FAILED: libkeel.so needs more than it may: $extra"; exit 1; }
    echo "ok  ldd libkeel.so"
  fi
done
quiet cmake -S "$here/nested" -B "$root/build/consumer-nested" -G Ninja -DCMAKE_BUILD_TYPE=Release -DKEEL_SOURCE="$root" -DCMAKE_CXX_COMPILER_LAUNCHER="$(command -v ccache || true)"
quiet cmake --build "$root/build/consumer-nested" -j "${JOBS:-$(nproc)}"; quiet "$root/build/consumer-nested/consumer"
echo "ok  add_subdirectory  g++"
