# Commands of microgan. Each does its own set-up; start with `make`, which lists them.

PYTHON ?= python3
VENV := .venv
SCAN ?=
PORT ?= 5000
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export PORT

.DEFAULT_GOAL := help
.PHONY: help setup repro test lint format ui

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make repro SCAN=NAME  the same for the scan NAME, an entry of scans: in params.yaml, which has"
	@awk '/^scans:/ {on = 1; next} /^[^ \#]/ {on = 0} on && /^  [A-Za-z]/ {sub(":.*", ""); printf "%22s  %s\n", "", $$1}' params.yaml

setup: $(VENV)/.installed mlflow.db ## Install everything into .venv (the others do it by themselves)

repro: setup ## Run what is out of date, from raw scan to report: reports/report.html
	python -m stages.select $(SCAN)
	dvc repro
	@python -m stages.durations

test: $(VENV)/.installed ## Run the tests, a process for each core
	OMP_WAIT_POLICY=passive pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed ## Check style, types and imports
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(VENV)/.installed ## Put the code into the project's style
	ruff check --fix .
	ruff format .

ui: setup ## Compare runs in the browser, at the address that is printed (PORT=5000)
	@python -m stages.ui
	@mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
	    --backend-store-uri sqlite:///mlflow.db --artifacts-destination ./mlartifacts

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "microgan: $(PYTHON): must be Python 3.11 or newer; name another with make PYTHON=..." >&2; exit 2; }
	@case "$(CURDIR)" in *:*) \
	    echo "microgan: $(CURDIR): has a colon, which the search path for programs cannot hold; rename it" >&2; exit 2;; esac
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "microgan: $(PYTHON): has no module venv; install it (Debian: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mesh,pipeline,dev]"
	@touch $@

mlflow.db: | $(VENV)/.installed
	@mlflow db upgrade sqlite:///mlflow.db 2>/dev/null || \
	    echo "microgan: warning: MLflow has no data base; runs will not be tracked" >&2
