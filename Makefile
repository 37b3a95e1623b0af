# make demo: see it work.   make test: run every test.   make lint: check style and types.   make docs: build the site.
# make test-newest: a selection of the tests with the newest versions, if there is a Python 3.12 or 3.13 besides.
# make gpu GPU_MINUTES=12 CAMVID=PATH: measure on a GPU, with the packages that PYTHON has; TINY=--tiny tries it on a CPU.
# make fuzz MINUTES=30: damage files of every kind for that long, with seeds that were not tried before.
# All but `make gpu` create .venv (or .venv-newest) and install what they need into it; nothing outside the folder changes.

PYTHON ?= python3
BIN := .venv/bin
NEWEST_BIN := .venv-newest/bin
DEMO := demo
MINUTES := 30
GPU_MINUTES := 12
GPU_OUT := gpu_results
# The constraints that fit the Python at hand.
VERSIONS := $(shell $(PYTHON) -c 'import sys; print("oldest" if sys.version_info < (3, 12) else "newest")')
# A newer Python than that of `make test`, which is not always there.
NEWEST ?= $(shell for python in python3.13 python3.12 $(foreach v,3.13 3.12,$(wildcard $(HOME)/.pyenv/versions/$v.*/bin/python)); do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$python && break; done)

.PHONY: demo install test test-newest gpu fuzz lint docs clean

demo: .venv/.installed
	$(BIN)/openseg demo --out=$(DEMO)

# What all tests need; with -j2 both environments are made at the same time.
install: .venv/.installed-test $(if $(and $(filter oldest,$(VERSIONS)),$(NEWEST)),.venv-newest/.installed)

test: .venv/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

ifeq ($(VERSIONS)$(NEWEST),oldest)
test-newest:
	@echo "There is no Python 3.12 or 3.13 for the newest versions."
else ifeq ($(VERSIONS),newest)
test-newest: test
else
test-newest: .venv-newest/.installed
	JAX_COMPILATION_CACHE_DIR=.jax_cache/newest $(NEWEST_BIN)/python -m pytest -n 2 --dist worksteal @tests/selection.txt
endif

gpu:
	$(PYTHON) -m benchmarks.gpu --minutes=$(GPU_MINUTES) --out=$(GPU_OUT) $(if $(CAMVID),--camvid=$(CAMVID)) $(TINY)

fuzz: .venv/.installed-test
	end=$$(( $$(date +%s) + 60 * $(MINUTES) )); seed=$$(date +%s); while [ $$(date +%s) -lt $$end ]; do \
		seed=$$(( seed + 1 )); echo "SEED=$$seed"; \
		SEED=$$seed FUZZ=20 $(BIN)/python -m pytest -q -s tests/robustness || exit 1; done

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site: build/site/index.html"

.venv/.installed: pyproject.toml constraints/$(VERSIONS).txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "openseg_jax needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints/$(VERSIONS).txt -e .
	touch $@

# torch is named with its exact version, and first: other forms would bring the CUDA build of several gigabytes. With
# other Pythons than 3.11 the tests that compare with torch are left out.
.venv/.installed-test: .venv/.installed
	test $(VERSIONS) = newest || $(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints/$(VERSIONS).txt -e '.[test]'
	touch $@

# The compiler for GPUs, 230 MB, with which tests/gpu compiles programs on any machine.
.venv/.installed-gpu-compile: .venv/.installed-test
	$(BIN)/python -m pip install -q -c constraints/$(VERSIONS).txt -e '.[gpu-compile]'
	touch $@

.venv-newest/.installed: pyproject.toml constraints/newest.txt
	test -x $(NEWEST_BIN)/python || $(NEWEST) -m venv .venv-newest
	$(NEWEST_BIN)/python -m pip install -q -c constraints/newest.txt -e '.[test]'
	touch $@

.venv/.installed-docs: .venv/.installed constraints/docs.txt
	$(BIN)/python -m pip install -q -c constraints/docs.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-newest .jax_cache $(DEMO)
