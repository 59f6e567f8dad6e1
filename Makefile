# Everything runs in .venv, which is made from the first Python that works; `make demo PYTHON=python3.13` chooses one.
# On Linux, `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo` takes the CPU build of torch: 0.2 GB, not 3.
SUITS := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITS)' >/dev/null 2>&1 && echo $$python && break; done)
REFUSAL = $(or $(PYTHON),no python3 on PATH) will not do: this needs Python 3.11 to 3.14 with venv and ensurepip \
	(on Debian: apt install python3-venv); name one with PYTHON=...
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin

help: ## list what make can do
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: .venv/train ## train a character model for two minutes, measure it, and write with it
	@$(BIN)/python -m minrnn demo

test: lint pytest ## linter, type checker and all tests

lint: .venv/dev ## linter and type checker alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

pytest: .venv/dev ## all tests alone, a process on each processor
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

public: .venv/dev .venv/public ## swap the recurrent layers of models that others published, and train them
	$(BIN)/python -m pytest tests/layers/test_public_models.py -rA

peers: .venv/dev .venv/peers ## compare mixers with the implementations of others, weights and numbers
	$(BIN)/python -m pip install --disable-pip-version-check --constraint .github/peers.txt --no-deps sru xlstm
	$(BIN)/python -m pytest tests/peers -rA

executorch: .venv/dev .venv/executorch ## export to ExecuTorch, and run what was exported
	$(BIN)/python -m pytest tests/export/test_executorch.py -rA

reproduce: .venv/dev ## run every experiment of the paper, small enough for a few minutes
	$(BIN)/python -m minrnn reproduce all --scale smoke

format: .venv/dev ## let the linter mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/train ## time the layers and the language model side by side with torch's own
	$(BIN)/python -m minrnn bench layers
	$(BIN)/python -m minrnn bench calls
	$(BIN)/python -m minrnn bench model

clean: ## remove .venv and all caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/public: CONSTRAINTS := .github/public.txt
.venv/peers: CONSTRAINTS := .github/peers.txt

# The files .venv/train, .venv/dev, .venv/public, .venv/peers and .venv/executorch say what is installed. They are written last, so what was cut short is done again.
.venv/train .venv/dev .venv/public .venv/peers .venv/executorch: .venv/%: pyproject.toml $(CONSTRAINTS) $(if $(realpath $(BIN)/python),,ALWAYS)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		'$(PYTHON)' -c '$(SUITS)' >/dev/null 2>&1 || { echo '$(REFUSAL)' >&2; exit 2; }; \
		echo 'making .venv with $(PYTHON)'; '$(PYTHON)' -m venv --clear .venv; }
	$(BIN)/python -m pip install --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[$*]'
	@touch $@

.PHONY: help demo test lint pytest public peers executorch reproduce format bench clean ALWAYS
.DEFAULT_GOAL := help
