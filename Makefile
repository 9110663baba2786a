PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
# Two keep two cores busy: one waits for a Ray to start or to end, the other computes.
TEST_WORKERS ?= 2
export HF_HUB_DISABLE_TELEMETRY := 1
export RAY_USAGE_STATS_ENABLED := 0
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: setup demo demo-transcripts test lint

setup: $(STAMP)

# torch first: with it installed nothing pulls another build of it in.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11; say make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q -c constraints.txt torch
	$(PY) -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

lint: setup
	$(VENV)/bin/ruff check platform jobs cluster tests
	$(VENV)/bin/ruff format --check platform jobs cluster tests
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

test: setup
	$(VENV)/bin/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

demo: setup
	$(PY) jobs/demo.py

demo-transcripts: setup
	$(PY) jobs/demo_transcripts.py
