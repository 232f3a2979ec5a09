# Every command a person or CI uses, each spelled once. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
ASYNCAPI := build/asyncapi
CLICKHOUSE := build/clickhouse
SIDE_BY_SIDE := $(if $(JOBS),--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder)
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test tests lint format types imports unit unit-others integration coverage faults siege bench \
	kafka postgres contract lock lock-check audit fuzz clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(RUNTIME) $(if $(KAFKA),$(DEV)) ## watch events become rows; KAFKA=1: through a real broker
	@$(BIN)/python -m tests.demo $(if $(KAFKA),--kafka)

test: lint tests ## lint and all tests on this Python

# JOBS=2 runs whole files side by side, so that the parts that a file starts are started once, and
# in their order, which has the longest waits first
tests: $(DEV) $(ASYNCAPI)/.installed $(CLICKHOUSE)/.installed ## all tests on this Python; JOBS=2: side by side
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

lint: format-check types imports lock-check ## style, types, import rules, locks

format: $(DEV) ## rewrite the code in the house style
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

.PHONY: format-check
format-check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy

imports: $(DEV) ## who may import whom
	$(BIN)/lint-imports --no-cache --no-logo

lock-check: ## locks name no host
	@! grep -nE 'https?://|^--' requirements/*.txt

unit: $(DEV) ## unit and property tests on this Python
	$(BIN)/python -m pytest tests/unit tests/contract tests/property

unit-others: $(DEV) ## unit and property tests on every other Python that is installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/other_pythons.sh

integration: $(DEV) $(ASYNCAPI)/.installed $(CLICKHOUSE)/.installed ## tests with real parts: processes, a Kafka broker
	$(BIN)/python -m pytest tests/integration

coverage: $(DEV) $(ASYNCAPI)/.installed $(CLICKHOUSE)/.installed ## all tests on this Python, and the lines that none of them runs
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term

contract: $(DEV) ## write the published contract anew: deploy/contract
	$(BIN)/python -m tests.contract --new
	$(BIN)/python -m tests.contract.examples
	rm -rf deploy/contract
	$(BIN)/forebay-ingest schema export --out deploy/contract

faults: $(DEV) ## break things on purpose and count what is lost; ROW=… SEED=…
	@$(BIN)/python -m tests.faults $(if $(ROW),--row $(ROW)) $(if $(SEED),--seed $(SEED))

siege: $(DEV) ## attack a receiver in every way we know, genuine traffic beside it; ATTACK=…
	@$(BIN)/python -m tests.siege $(if $(ATTACK),--attack $(ATTACK))

fuzz: $(DEV) ## a million spoilt inputs, none of which may be let in; TARGET=… INPUTS=… SEED=… MINUTES=…
	@$(BIN)/python -m tests.fuzz $(if $(TARGET),--target $(TARGET)) $(if $(INPUTS),--inputs $(INPUTS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: $(DEV) ## measure what an event costs
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.outage
	$(BIN)/python -m tests.bench.backlog

kafka: $(DEV) ## run a real Kafka broker on 127.0.0.1:9092 until Ctrl-C
	$(BIN)/python -m tests.kafka run

postgres: $(DEV) ## run a real PostgreSQL server on 127.0.0.1:5432 until Ctrl-C
	$(BIN)/python -m tests.postgres

lock: $(DEV) ## resolve the dependencies anew
	$(LOCK) --all-extras --group dev --upgrade --output-file requirements/dev.txt
	$(LOCK) --extra ingest -c requirements/dev.txt --output-file requirements/ingest.txt
	$(LOCK) --extra consumers -c requirements/dev.txt --output-file requirements/consumers.txt
	$(LOCK) --group build -c requirements/dev.txt --output-file requirements/build.txt
	$(LOCK) --group clickhouse-engine -c requirements/dev.txt --output-file requirements/clickhouse.txt

# exit 0: no flaw is known; 1: some are; 3: that cannot be told from here, for want of its data
audit: $(DEV) ## known flaws in what the locks name
	@$(BIN)/python -m tests.audit

clean: ## remove what the commands above made
	rm -rf $(VENV) build dist .kafka .postgres data .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(RUNTIME): $(BIN)/python requirements/ingest.txt requirements/consumers.txt requirements/build.txt
	@echo "installing what the programs need"
	@$(INSTALL) --require-hashes -r requirements/build.txt \
		-r requirements/ingest.txt -r requirements/consumers.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt
	@echo "installing what the tests need"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# ClickHouse's engine, which the tests of its sink ask; see pyproject.toml for why it lives apart
$(CLICKHOUSE)/.installed: $(DEV) requirements/clickhouse.txt
	@echo "installing ClickHouse's engine"
	@$(BIN)/python -m venv $(CLICKHOUSE)
	@$(CLICKHOUSE)/bin/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes -r requirements/clickhouse.txt
	@touch $@

# AsyncAPI's own parser, which one test asks; that test says so where there is no npm
$(ASYNCAPI)/.installed: tests/contract/asyncapi/package-lock.json
	@mkdir -p $(ASYNCAPI)
	@cp tests/contract/asyncapi/package.json tests/contract/asyncapi/package-lock.json $(ASYNCAPI)
	@if command -v npm >/dev/null; then echo "installing what checks the AsyncAPI document"; \
		npm ci --prefix $(ASYNCAPI) --ignore-scripts --no-audit --no-fund --loglevel=error \
		&& touch $@ || echo "npm could not install it" >&2; fi
