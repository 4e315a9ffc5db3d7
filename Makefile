# Two commands: `make demo` and `make test`. Everything else is in ./dev.
export KEEL_DATA ?= $(abspath ../shared/data)
PRESET ?= release
BUILD := build/$(PRESET)

.PHONY: all demo test install clean
all: configure
	cmake --build $(BUILD)

.PHONY: configure
configure:
	@tools/packages.sh build
	@cmake -S . -B $(BUILD) --preset $(PRESET) --log-level=WARNING -DKEEL_BUILD_TESTS=OFF

# Trains a small network, evaluates it, saves it, loads it in a new process and predicts; leaves runs/demo/. Its build is the quick one: vector kernels for this kind of
# processor only and at -O2, which costs a tenth of the speed, the rest at -O1, no `keel bench`.
demo:
	@tools/packages.sh build
	@cmake -S . -B build/demo --preset release --log-level=WARNING -DKEEL_BUILD_TESTS=OFF -DKEEL_NATIVE=ON -DKEEL_CLI_BENCH=OFF \
	  -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DKEEL_NATIVE_FLAGS=-O2
	@cmake --build build/demo --target keel_cli
	@build/demo/apps/keel/keel demo --out runs/demo

test:
	@tools/packages.sh test
	@cmake -S . -B $(BUILD) --preset $(PRESET) --log-level=WARNING -DKEEL_BUILD_TESTS=ON
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -j $$(nproc)

install: all
	cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean:
	rm -rf build runs
