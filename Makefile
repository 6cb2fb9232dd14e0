# netledger: bare `make` lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test search fuzz check docs bench postgres redis lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "netledger needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12 ..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## set up everything and replay a real incident
	@$(BIN)/netledger replay tests/incidents/data/s0-buggy/audit.log.gz; code=$$?; test $$code -le 1

# Several processes, a file's tests in one of them; one more than there are processors, for most wait now and then.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test: $(STAMP) ## set up everything and run the tests (under five minutes)
	$(PYTEST)

search: $(STAMP) ## the longer searches: more examples, more kills, every prefix
	NETLEDGER_SEARCH=long $(PYTEST)

SECONDS ?= 60
fuzz: $(STAMP) ## feed damaged input to every reader for SECONDS (60), guided by coverage; installs atheris
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3,<4'
	$(BIN)/python -m tests.fuzzing.readers $(SECONDS)

check: $(STAMP) ## lint and type-check, what the daemon is run with too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	deploy/check.sh "$(CURDIR)/$(BIN)"

docs: $(STAMP) ## regenerate the generated pages of docs/
	$(BIN)/python -m adapters.documentation

bench: $(STAMP) ## measure replay beside its floors and rewrite docs/benchmarks.md
	$(BIN)/python -m benchmarks.run

postgres: $(STAMP) ## start a PostgreSQL server to try a ledger on; Ctrl-C stops it
	@$(BIN)/python -m tests.servers.postgres_server

redis: $(STAMP) ## start a Redis server to keep ledgers on, to try it; Ctrl-C stops it
	@$(BIN)/python -m tests.servers.redis_server

UV_LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header
IMAGE_LOCK := $(UV_LOCK) --no-annotate --python-version 3.12 --constraint requirements.lock

lock: ## resolve requirements.lock again, and the image's two from it (needs uv)
	$(UV_LOCK) --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
	$(IMAGE_LOCK) pyproject.toml -o deploy/docker/run.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
		| $(IMAGE_LOCK) - -o deploy/docker/build.lock

clean: ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
