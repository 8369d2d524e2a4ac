# Every command of the house; each one sets up what it needs.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV ?= .venv
BIN = $(VENV)/bin
CANAILLE = $(VENV)-canaille
READY = $(VENV)/.ready
# Schemathesis takes a second to load in each process, and only tests/described needs it.
PYTEST = $(BIN)/python -m pytest -p no:schemathesis
# Into the environment $(1) what $(2) says. uv takes seconds where pip takes a minute, but does not
# read the settings of pip, such as the address of another index.
INSTALL = $(BIN)/uv pip install --quiet --python $(1)/bin/python $(2) || $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)

.NOTPARALLEL:
.PHONY: setup fix check load-tests test test-services test-faults test-described test-all services services-up services-down demo-1 demo-2 demo-3 demo-crash spec wheel binary test-packaging update-deps run clean

setup: $(READY)

$(READY): requirements.txt requirements-install.txt requirements-dev.txt requirements-local.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv. On Debian: apt-get install python3-venv"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-install.txt
	$(call INSTALL,$(VENV),-r requirements.txt -r requirements-dev.txt -r requirements-local.txt)
	$(call INSTALL,$(VENV),--no-deps -e .)
	@touch $(READY)

fix: $(READY)
	$(BIN)/ruff check --fix-only --quiet src tests scripts bench
	$(BIN)/ruff format --quiet src tests scripts bench

check: $(READY)
	$(BIN)/ruff format --check --quiet src tests scripts bench
	$(BIN)/ruff check --quiet src tests scripts bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/fawltydeps
	$(BIN)/python scripts/check_house.py

# Loads every test once in one process, which compiles them and all that they load: quicker than
# when several processes begin at once.
load-tests: $(READY)
	$(PYTEST) --collect-only -q --ignore tests/described tests >/dev/null

# A file stays in one process, and what is named first, which takes longest, is begun first.
PARALLEL = $(PYTEST) -n 4 --dist loadfile --no-loadscope-reorder
test: $(READY) $(CANAILLE)/.ready
	$(PARALLEL) tests/contract tests/property tests/unit

# What needs services. What failed beside others is run once more by itself, and told: killed
# servers and time limits want cores of their own.
AGAIN = $(PYTEST) --last-failed --last-failed-no-failures none
test-services: $(READY) $(CANAILLE)/.ready
	$(PARALLEL) tests/integration || $(AGAIN) tests/integration

test-faults: $(READY)
	$(PYTEST) -n 3 --dist loadfile tests/faults || $(AGAIN) tests/faults

# By itself, since Schemathesis makes its examples while tests are collected: once is enough.
test-described: $(READY)
	$(BIN)/python -m pytest tests/described

test-all: test test-services test-faults test-described

# The servers of full mode, for tests and for trying: docs/operations/services.md
services: $(READY)
	CV3_VENV=$(VENV) scripts/services.sh install

services-up: services
	CV3_VENV=$(VENV) scripts/services.sh up

services-down:
	CV3_VENV=$(VENV) scripts/services.sh down

# The identity provider of local mode has requirements of its own, so it lives apart.
$(CANAILLE)/.ready: $(READY) requirements-canaille.txt
	test -x $(CANAILLE)/bin/python || $(BIN)/python -m venv $(CANAILLE)
	$(call INSTALL,$(CANAILLE),-r requirements-canaille.txt)
	@touch $@

demo-1: $(READY)
	$(BIN)/python scripts/demo/first_answer.py

demo-2: $(READY)
	$(BIN)/python scripts/demo/full_mode.py

# In a run of everything there is less of it: make demo-3 CSV_MIB=16 PEOPLE=2000
CSV_MIB ?= 1024
PEOPLE ?= 10000
demo-3: $(READY)
	$(BIN)/python scripts/demo/data_in.py --csv-mib $(CSV_MIB) --people $(PEOPLE)

# make demo-crash SUBJECTS=40000
SUBJECTS ?= 100000
demo-crash: $(READY)
	$(BIN)/python scripts/demo/crash.py --subjects $(SUBJECTS)

spec: $(READY)
	$(BIN)/python scripts/bundle_openapi.py --check

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

binary: $(READY)
	$(BIN)/python scripts/build_binary.py

# Builds both, installs the wheel into an empty environment, starts and calls both.
test-packaging: $(READY)
	CV3_SLOW=1 $(BIN)/python -m pytest tests/integration/test_packaging.py

# The newest of everything that is pinned; read what changed and run the tests before you keep it.
update-deps: $(READY)
	$(BIN)/python scripts/update_deps.py requirements.txt requirements-install.txt requirements-dev.txt requirements-local.txt

run:
	./CafeVariome3.sh local

clean:
	rm -rf build dist $(VENV) $(CANAILLE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
