# make demo: see it work.   make test: run every test.   make lint: check style and types.   make docs: build the site.
# All of them create .venv and install what they need into it; nothing outside the folder changes.

PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test lint docs clean

demo: .venv/.installed
	$(BIN)/python train.py --config=configs/synthetic.py --workdir=$(DEMO)
	$(BIN)/python eval.py --config=configs/synthetic.py --checkpoint=$(DEMO) --out=$(DEMO)/report
	@echo "Pictures (prediction beside the truth): $(DEMO)/report/overlay"

test: .venv/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site: build/site/index.html"

.venv/.installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "openseg_jax needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# torch is named with its exact version, and first: other forms would bring the CUDA build of several gigabytes.
.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[torch,test]'
	touch $@

.venv/.installed-docs: .venv/.installed constraints/docs.txt
	$(BIN)/python -m pip install -q -c constraints/docs.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .jax_cache $(DEMO)
