# Two commands: `make demo` sets up and runs the main job, `make test` sets up and passes the tests.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(dir $(wildcard plugins/*/pyproject.toml)))
# pytest-xdist workers
JOBS ?= 2

.PHONY: setup demo demo-tiny test check lint types imports native bench clean

# The stamp is remade when what is installed changes. torch goes first, so that no other package pulls a larger build of it.
$(VENV)/.installed: pyproject.toml $(addsuffix pyproject.toml,$(PLUGINS))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[all,dev]"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(addprefix --editable ./,$(PLUGINS))
	touch $@

setup: $(VENV)/.installed

demo: setup
	$(BIN)/python -m medgen demo --out demo

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: lint types imports

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports --no-cache

# The C++ and CUDA sources: warnings are errors, ctest, symbols, registers, sanitizers. See docs/native.md.
native: setup
	cmake -S . -B build -DMEDGEN_WERROR=ON
	cmake --build build --parallel $(JOBS)
	ctest --test-dir build --output-on-failure
	MEDGEN_CXXFLAGS=-Werror MEDGEN_OPS=native $(BIN)/python -m medgen doctor --ops
	$(BIN)/python tools/symbols.py
	$(BIN)/python tools/cuda_budget.py
	tools/sanitize.sh

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build demo
