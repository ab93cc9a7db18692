# What a person does with this repository. Each target says what it needs; `make setup` brings all of it.
SHELL := /bin/bash
PY := .venv/bin/python
BIN := .venv/bin
JOBS ?= 2
# Unit tests wait now and then, so a third process is no more than two cores can do; those on real parts do not.
UNIT ?= 3
REAL ?= 2

# Where it is set, every one of the many processes of a test would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup check lint types imports unit test chaos bench demo up lock format clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## install what is missing on this machine (as root also the servers); the second time a no-op
	@scripts/setup.sh

$(PY):
	@echo "there is no .venv yet: run \`make setup\` first" >&2; exit 1

check: | $(PY) ## lint, types, import rules, unit and style tests; under a minute, needs no server
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target unit types lint imports

lint: | $(PY)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --check . | tail -n 20; exit 1; }
	@$(BIN)/vulture
	@$(BIN)/deptry --no-ansi . 2>.venv/deptry.log || { cat .venv/deptry.log; exit 1; }
	@$(BIN)/deptry --no-ansi --config sdk/python/pyproject.toml sdk/python/src 2>.venv/deptry-sdk.log || { cat .venv/deptry-sdk.log; exit 1; }

types: | $(PY)
	@$(BIN)/mypy

imports: | $(PY)
	@$(BIN)/lint-imports

unit: | $(PY)
	@$(PY) -m pytest tests/unit tests/style -q -n $(UNIT) --dist worksteal --hypothesis-profile=check

test: | $(PY) ## everything, against real servers that it starts itself; a server that is missing fails
	@$(BIN)/sandpool image build base data
	@$(PY) -m pytest tests/unit tests/style tests/sandbox -n $(REAL) --dist worksteal
	@$(PY) -m pytest tests/integration -n $(REAL) --dist loadfile
	@$(PY) -m pytest tests/e2e -n $(REAL)
	@$(PY) -m pytest tests/chaos

chaos: | $(PY) ## thousands of jobs while everything breaks, longer than in `make test`; CHAOS_SEED=N repeats a plan
	@CHAOS_JOBS=$${CHAOS_JOBS:-20000} CHAOS_ROUNDS=$${CHAOS_ROUNDS:-3} CHAOS_TIMEOUT_S=3600 $(PY) -m pytest tests/chaos

bench: | $(PY) ## every claim of docs/specification.md beside its peer, in one run
	@$(PY) -m benchmarks $(ARGS)

demo: setup ## start private servers, run real jobs on real data, show what came out, stop everything
	@$(PY) -m cluster.demo $(if $(NODES),--nodes $(NODES))

up: setup ## a local cluster with private servers in the foreground; Ctrl-C drains
	@$(BIN)/sandpool up --local

lock: | $(PY) ## renew requirements.lock from the pyproject files
	@$(PY) scripts/lock.py

format: | $(PY) ## let ruff repair what it can
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

clean: ## delete what runs leave behind; .venv stays
	@rm -rf .sandpool .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find cluster workers queues sdk tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
