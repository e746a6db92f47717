# Every target sets up what it needs: a bare machine with Python 3.11, make and git is enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: quickstart test serve ui ui-stop bench format lint install

quickstart: $(READY)
	@kindling run quickstart

# files side by side, in the order of tests/conftest.py, not by how many tests each has; waiting
# threads sleep, or those of one file would take the core from another's
test: $(READY_DEV)
	@OMP_WAIT_POLICY=PASSIVE pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 25

serve: $(READY)
	@kindling serve quickstart

ui: $(READY)
	@python -m infra.stack start

ui-stop: $(READY)
	@python -m infra.stack stop

bench: $(READY_DEV)
	@for script in bench/[a-z]*.py; do echo "== $$script"; python $$script || exit 1; done

format: $(READY_DEV)
	@ruff check --fix . && ruff format .

lint: $(READY_DEV)
	@ruff check . && ruff format --check .

install: $(READY_DEV)

# torch first and by its exact version: another resolver's choice may bring gigabytes of CUDA
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "kindling needs Python 3.11: no '$(PYTHON)' here; say where it is with 'make PYTHON=/path/to/python3.11 ...'"; exit 1; }
	@echo "setting up $(VENV) (once, some minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -c 'import components.inference.batcher'  # compiles its kernels, kept for good
	@touch $@

# what tests and benchmarks need besides: pytest, ruff, peers, a cluster's engine
$(READY_DEV): $(READY)
	@echo "adding what tests and benchmarks need (once) ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
