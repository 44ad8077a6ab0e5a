# Every target makes what it needs: `make demo` and `make test` work on a machine that has Python, make and PyPI.
# Choose another interpreter with `make PYTHON=/usr/bin/python3.12 …`.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.14 python3 python "$$(pyenv prefix 3.13 2>/dev/null)/bin/python" "$$(pyenv prefix 3.12 2>/dev/null)/bin/python"; do \
	"$$p" -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' 2>/dev/null && { command -v "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

IMAGE ?= solaris-meter:latest
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.12 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --no-annotate

.PHONY: demo test librechat run lint format docs lock bench image compose-test sbom clean help

help:
	@echo "make demo    the whole story on this machine: no key, no network"
	@echo "make test    the test suite"
	@echo "make librechat   LibreChat's own npm package through the sidecar (node; downloads a gigabyte once)"
	@echo "make run     the sidecar on 127.0.0.1:8080 (settings: solaris.toml, if there is one);"
	@echo "             elsewhere with ARGS='--listen 0.0.0.0:8080'"
	@echo "make lint    ruff, the layer rules, mypy"
	@echo "make bench   speed beside a bare mitmdump"
	@echo "make image   the sidecar's Docker image (IMAGE=$(IMAGE))"
	@echo "make compose-test   compose.yaml and its overrides in the Docker engine of this machine, with stand-ins"
	@echo "make sbom    dist/sbom.cdx.json: what the image holds of Python, as CycloneDX"
	@echo "make docs    docs/dialects.md, from the code"
	@echo "make lock    resolve requirements.lock anew"
	@echo "make clean   remove what the other targets made"

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed and was not found; name one with: make PYTHON=/path/to/python"; exit 1; }
	@echo "[1/3] a virtual environment in $(VENV), from $(PYTHON)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "[2/3] the locked packages (hashes are checked; a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@echo "[3/3] Solaris Meter itself"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)
	@$(BIN)/solaris-cli demo

test: $(READY)
	@echo "running the tests (some minutes; real proxy processes are started on 127.0.0.1)"
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

# What needs node and a gigabyte from npm.
librechat: $(READY)
	@LIBRECHAT_AGENTS=1 $(BIN)/python -m pytest tests/librechat $(ARGS)

run: $(READY)
	@$(BIN)/solaris-cli run $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m tests.bench

docs: $(READY)
	$(BIN)/python -m tests.dialect_table

# One lock for every Python from 3.12 on: names, versions, markers and hashes, no address of an index. The image's own
# locks are parts of it.
lock: $(READY)
	$(COMPILE) pyproject.toml --extra dev --upgrade --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra otel --extra postgres -c requirements.lock --output-file deploy/requirements.lock
	echo hatchling | $(COMPILE) - -c requirements.lock --output-file deploy/build-requirements.lock

# SOURCE_DATE_EPOCH is the commit's time, so that the same commit gives the same files.
image:
	docker build -f deploy/Dockerfile -t $(IMAGE) \
		--build-arg SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' addon/solaris_meter/__init__.py)" .

compose-test: $(READY)
	@$(MAKE) image IMAGE=solaris-meter:test
	@$(BIN)/python -m pytest tests/deploy $(ARGS)

sbom: $(READY)
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements deploy/requirements.lock --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.cdx.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find addon cli tests -name __pycache__ -type d -prune -exec rm -rf {} +
