# Everything runs in .venv, which the first target makes from any Python 3.11 or newer: `make demo PYTHON=python3.13` chooses one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

help: ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

demo: .venv/train ## train a character model for two minutes, measure it, and write with it
	$(BIN)/minrnn demo

test: .venv/dev ## linter, type checker and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: .venv/train ## time the layers and the language model side by side with torch's own
	$(BIN)/minrnn bench layers
	$(BIN)/minrnn bench model

format: .venv/dev ## let the linter mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove .venv and all caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps are written last, so that an installation cut short is made anew.
.venv/python:
	@test -n "$(PYTHON)" || { echo 'make: no Python 3.11 or newer with venv and ensurepip is on PATH; install one (Debian: apt install python3-venv) or give PYTHON=/path/to/python3' >&2; exit 2; }
	@echo 'making .venv with $(PYTHON)'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/train: .venv/python pyproject.toml constraints.txt
	@echo 'installing minrnn into .venv (torch is about 200 MB: a minute or two)'
	@$(PIP) --editable '.[train]'
	@touch $@

.venv/dev: .venv/train
	@echo 'installing what the tests need'
	@$(PIP) --editable '.[train,dev]'
	@touch $@

.PHONY: help demo test bench format clean
.DEFAULT_GOAL := help
