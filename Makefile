# Everything here sets up what it needs: a plain clone, or an unpacked archive, and Python 3.11 or newer are enough.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env repro repro-yeh2020 test lint format docs bench lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(BIN):$(PATH)
# Without bytecode every stage would compile torch and its kin anew, some 15 seconds each time.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */  make \1\t/' | expand -t 24

env: $(READY)  ## the environment in .venv, exactly as requirements.lock pins it

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sustain needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@echo "Setting up $(VENV) (about 6.7 GB, most of it torch) ..."
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@# The installer itself comes first, from its own lines of the lock.
	@awk '/^uv==/ {p=1; print; next} p && /^ +--hash/ {print; next} {p=0}' requirements.lock > $(VENV)/installer.lock
	@[ -x $(VENV)/bin/uv ] || "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/installer.lock
	@"$(BIN)/uv" pip sync --quiet --python "$(BIN)/python" --require-hashes requirements.lock
	@"$(BIN)/uv" pip install --quiet --python "$(BIN)/python" --no-deps --no-build-isolation --editable .
	@# DVC looks for git; an unpacked archive has none.
	@[ -e .git ] || "$(BIN)/dvc" config --local core.no_scm true
	@touch $(READY)

repro: $(READY)  ## the whole pipeline on the source named in params.yaml
	@"$(BIN)/python" pipelines/repro.py
	@"$(BIN)/sustain" summary

repro-yeh2020: $(READY)  ## real survey wealth, real CNN predictions, the real Nigeria raster
	@"$(BIN)/python" pipelines/repro.py pipelines/yeh2020/dvc.yaml
	@"$(BIN)/sustain" summary --params pipelines/yeh2020/params.yaml

test: $(READY)  ## the whole test suite
	@"$(BIN)/python" -m pytest -n 2

lint: $(READY)  ## ruff and mypy
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

format: $(READY)  ## ruff, mending what it can
	@"$(BIN)/ruff" check --fix .
	@"$(BIN)/ruff" format .

docs: $(READY)  ## the documentation, strictly, into site/
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --quiet --strict

bench: $(READY)  ## the benchmarks, into benchmarks/results/
	@for script in benchmarks/*.py; do echo "== $$script"; "$(BIN)/python" "$$script"; done

lock:  ## resolve requirements.lock anew
	@"$(BIN)/uv" pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header --upgrade pyproject.toml --output-file requirements.lock

clean:  ## remove the environment and everything that the pipelines made
	rm -rf $(VENV) data models predictions calibration maps effects publish reports work site .dvc/cache .dvc/tmp
