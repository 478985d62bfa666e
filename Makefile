# Two commands matter: `make demo` runs the main job, `make test` the whole suite. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= auto

# tests start many processes, each of which would compile everything again
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-rabbitmq test-pgbouncer test-oldest test-newest chaos lint format bench bench-peers fuzz lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 15

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "mailglass needs Python 3.11 or newer: none found on PATH (set PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mailglass needs Python 3.11 or newer; $(PYTHON) is older (set PYTHON=/path/to/python3.11)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "could not create $(VENV); on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## set up, then run the main job from end to end
	@$(BIN)/mailglass demo $(ARGS)

dev: $(READY)  ## run the same stack for developing an application against it
	@$(BIN)/mailglass dev $(ARGS)

test: $(READY)  ## set up, then run the whole suite
	@$(BIN)/python tests/run.py -n $(JOBS) $(ARGS)

test-rabbitmq: $(READY)  ## the whole suite again, on RabbitMQ without Redis
	@MAILGLASS_TEST_BROKER=rabbitmq $(BIN)/python tests/run.py -n $(JOBS) $(ARGS)

test-pgbouncer: $(READY)  ## the integration tests again, through PgBouncer in transaction mode
	@MAILGLASS_TEST_POOLER=pgbouncer $(BIN)/python tests/run.py -n $(JOBS) tests/integration $(ARGS)

test-oldest: $(READY)  ## what a producer does, on the oldest of every dependency
	@$(BIN)/python tests/versions.py oldest -n $(JOBS) $(ARGS)

test-newest: $(READY)  ## the unit tests and Django's, on the newest Python that is found
	@$(BIN)/python tests/versions.py newest -n $(JOBS) $(ARGS)

lint: $(READY)  ## ruff, strict mypy, import contracts, the names of tests, the prose of the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/python tests/lint.py
	$(BIN)/python tests/prose.py

format: $(READY)  ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

chaos: $(READY)  ## kill, cut and pause everything, CHAOS_ROUNDS (20) of CHAOS_MAILS (500), and print a table
	@$(BIN)/python tests/run.py -n 0 -m chaos tests/chaos $(ARGS)

bench: $(READY)  ## measure, as ratios within one run
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(READY)  ## measure against what others send mail with, in some 20 minutes
	@$(BIN)/python -m tests.bench.peers $(ARGS)

$(VENV)/.fuzz: requirements/fuzz.txt $(READY)
	@test "$$(uname)" = Linux || { echo "make fuzz needs Linux: atheris has no wheels for other systems"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/fuzz.txt
	@touch $@

fuzz: $(VENV)/.fuzz  ## fuzz what strangers may post, for FUZZ_MINUTES (default 10)
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock: $(READY)  ## pin the requirements again, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --constraint requirements/constraints.txt --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet -o requirements/dev.txt
	$(BIN)/uv pip compile requirements/peers.in --constraint requirements/constraints.txt --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --no-emit-index-url --no-emit-find-links -o requirements/peers.txt
	$(BIN)/uv pip compile requirements/queues.in --constraint requirements/constraints.txt --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --no-emit-index-url --no-emit-find-links -o requirements/queues.txt
	$(BIN)/uv pip compile pyproject.toml requirements/oldest.in --extra embedded --constraint requirements/constraints.txt --resolution lowest-direct --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet --no-emit-index-url --no-emit-find-links -o requirements/oldest.txt
	$(BIN)/uv pip compile --group fuzz --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet -o requirements/fuzz.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(VENV)-peers $(VENV)-oldest $(VENV)-newest $(VENV)-queues .mailglass .mypy_cache .ruff_cache .pytest_cache .hypothesis
