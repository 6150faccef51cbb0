# make demo     see it work: three machines, a unit, a power cut, the unit elsewhere
# make test     every test, on real etcd, systemd, D-Bus and SSH
# make fuzz     the properties among the tests, on very many examples: half an hour
# make check    format, lint, types, and who may import what
# make faults   every fault of docs/reliability.md on booted machines: twenty minutes
# make bench    the numbers of docs/performance.md, measured here (a taste: make bench ARGS=--quick)
# make bench-scale  those of docs/scaling.md: a thousand simulated machines on a real etcd
# make reliability  those of docs/reliability.md: half an hour, ten minutes of it without etcd
# make setup    what a fresh Debian 12 machine lacks; the others call it themselves

# Every process that runs tests reads them all: the first one compiles them for the others.
unexport PYTHONDONTWRITEBYTECODE

# The distribution's Python, if it will do: it is built to be fast. One that was compiled without
# `--enable-optimizations`, as version managers do it, takes a third longer for everything.
ifndef PYTHON
PYTHON := $(firstword $(shell for python in /usr/bin/python3 python3; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python; done) python3)
endif
# Tests mostly wait for machines: a few more at a time than there are cores.
WORKERS ?= 3
BIN := .venv/bin

.PHONY: root setup packages demo test faults unit fuzz check bench bench-scale reliability clean

root:
	@[ "$$(id -u)" -eq 0 ] || { echo "this boots real machines, which takes root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

# Commands and machines import the program thousands of times: it is compiled, as pip does it.
setup: packages .venv/.ready
	@$(BIN)/python -m compileall -q fleet agent engine cli

packages:
	@PYTHON=$(PYTHON) .ci/packages

.venv/.ready: pyproject.toml
	@echo "setting up .venv ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip --quiet install --editable . --group dev
	@touch $@

demo: root setup
	@$(BIN)/python -P -m cli.sandbox.demo

test: root setup
	$(BIN)/pytest -m "not faults" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder tests

faults: root setup
	$(BIN)/pytest -m "" --verbose tests/faults

unit: .venv/.ready
	$(BIN)/pytest tests

fuzz: .venv/.ready
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -m "fuzz and not etcd" --numprocesses $(WORKERS) --timeout 3600 tests

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/unit/test_architecture.py

bench: root setup
	$(BIN)/python -P -m tests.bench $(ARGS)

reliability: root setup
	$(BIN)/python -P -m tests.faults.numbers

bench-scale: .venv/.ready
	$(BIN)/python -P -m tests.bench.scale $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
