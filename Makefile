# Every habit of this project is a target here; `make` lists them.
ARGS   ?=
LOGDIR ?= runs
PORT   ?= 6006
# This machine alone. Not ?=, since some shells export HOST: only make's command line changes it.
HOST   := 127.0.0.1

# The first Python on the path that the locked dependencies have wheels for.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$python && break; done)

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras

.DEFAULT_GOAL := help
.PHONY: help setup setup-extras setup-cpu data train test test-all lint types format torture bench bench-peers bench-report measure record ladder lesson demo tensorboard doctor audit lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo
	@echo '  make train ARGS="trainer.max_epochs=1 optimizer.lr=0.003" passes overrides on.'

setup: $(READY) ## make .venv with the locked dependencies, their hashes verified

$(READY): requirements.lock
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 to 3.14; name one with PYTHON=<path>"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	@touch $@

setup-extras: $(EXTRAS) ## add what make demo, make audit, sweep=search, model=timm, ONNX export, Ray and Slurm need

# Without --no-deps pip would refuse what [tool.uv] in pyproject.toml overrides; the lock file holds all that is needed.
$(EXTRAS): requirements-extras.lock $(READY)
	$(BIN)/python -m pip install --require-hashes --no-deps -r requirements-extras.lock
	@touch $@

setup-cpu: ## the same with a CPU-only torch, a tenth of the size: make setup-cpu INDEX=<address>, see docs/install.md
	@test -n "$(INDEX)" || { echo "error: give the address that pytorch.org names for pip and CPU: make setup-cpu INDEX=<address>"; exit 1; }
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 to 3.14; name one with PYTHON=<path>"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	sed -nE 's/^([a-zA-Z0-9._-]+==.*) \\$$/\1/p' requirements.lock > $(VENV)/versions.txt
	$(BIN)/python -m pip install -i $(INDEX) $$(grep -E '^(torch|torchvision)==' $(VENV)/versions.txt)
	$(BIN)/python -m pip install --editable '.[dev]' --constraint $(VENV)/versions.txt
	@touch $(READY)

data: setup ## fetch and verify the data set (make train does it too)
	$(BIN)/python -m fmnist.fetch

train: setup ## train, test once, say how good it is and where everything lies; ARGS="key=value ..."
	$(BIN)/python train.py $(ARGS)

test: data ## run the fast tests: about five minutes on two cores
	@echo "The fast tests take about five minutes on two cores. They need no network."
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: test ## run the slow tests, too: a browser, Slurm, Ray, many seeds, many kills
	$(BIN)/python -m pytest -m slow $(ARGS)

# Phrases that circumscribe a term of the field or an actor.
PHRASES := (is|are|be|was|were) (told|said|refused)|(has|have) (its|their) own word|the last word|befell|befalls?|in the place of|for want of|says so|as it began|could be had|promises nothing|says of itself|is asked of|it is that|of one is|whoever|whatever has|who may|are given

lint: setup ## check style, words, and that no room imports one above it
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	! grep -rnwiE '$(PHRASES)' README.md docs conf fmnist benchmarks tests train.py --include='*.py' --include='*.md' --include='*.yaml'
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-logo --no-cache

types: setup ## check types
	$(BIN)/python -m mypy

format: setup ## format the code
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

torture: data ## kill runs in two hundred ways, continue them, and compare (takes a quarter of an hour); ARGS="kills=<number>"
	$(BIN)/python -m tests.torture $(ARGS)

bench: data ## measure what training costs, beside the floor and the usual ways (takes minutes)
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-peers: ## install what make bench also measures if it is there, Keras on TensorFlow and on JAX, in .venv-peers
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install keras tensorflow jax

bench-report: setup ## put the newest result of make bench into the documents
	$(BIN)/python -m benchmarks.report

measure: data ## train experiments with five seeds each and keep the results; ARGS="experiments=[small,strong] kept=<directory>"
	$(BIN)/python -m benchmarks.measure $(ARGS)

record: override ARGS := experiments=[record_90,record_91,record_92,record_93,record_94] $(ARGS)
record: measure ## time to accuracy: the same with the five fastest recipes (takes 50 minutes); ARGS="kept=<directory>"

ladder: setup ## put the runs that make measure has kept into benchmarks/results and the documents
	$(BIN)/python -m benchmarks.ladder

lesson: setup-extras ## run docs/lesson.ipynb from top to bottom and keep its output (takes a minute)
	$(BIN)/jupyter-execute --inplace docs/lesson.ipynb

demo: setup-extras ## open a page on which to try a network on pictures; RUN=<run directory> HOST=<address> PORT=<port>
	$(BIN)/python -m fmnist.demo host=$(HOST) $(if $(RUN),run=$(RUN)) $(if $(filter command line,$(origin PORT)),port=$(PORT))

tensorboard: setup ## open the dashboard on runs/; LOGDIR=<directory> HOST=<address> PORT=<port>
	$(BIN)/python -m tensorboard.main --logdir "$(LOGDIR)" --host $(HOST) --port $(PORT)

doctor: ## check the installation and this machine for problems; installs nothing
	@python=$$(test -x $(BIN)/python && echo $(BIN)/python || echo "$(PYTHON)"); $${python:-python3} -m fmnist.doctor $(ARGS)

audit: setup-extras ## check the lock files for known vulnerabilities with pip-audit
	$(BIN)/python .ci/audit_dependencies.py requirements.lock requirements-extras.lock

lock: LOCK := --universal --generate-hashes --python-version 3.11 --no-header
lock: ## renew the lock files from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --extra export --extra demo --extra search --extra lesson --extra audit --extra ray --extra slurm --extra timm $(LOCK) --output-file requirements-extras.lock
	uv pip compile pyproject.toml --extra dev $(LOCK) --constraint requirements-extras.lock --output-file requirements.lock

clean: ## remove the environment and all caches; runs and data stay
	rm -rf $(VENV) .venv-peers .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './data/*' -not -path './runs/*' -prune -exec rm -rf {} +
