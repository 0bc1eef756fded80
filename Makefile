# `make` alone lists the targets. Everything runs in .venv, made from the hash-pinned files in requirements/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
ARGS ?=
# Tests wait more than they compute; each process has servers of its own.
JOBS ?= 2

# Paths that the checkers read; those that are not there yet are left out.
CODE := $(wildcard streams tests bench demo deploy requirements)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The project itself: its dependencies are installed already, and setuptools is one of them.
INSTALL_PROJECT := PYTHONWARNINGS="ignore:Editable installation" $(PIP) install --no-deps --no-build-isolation --editable .

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.dev ## Make .venv with everything that developing and testing need

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "streams needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: run make PYTHON=python3.11 (or another of them)" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The demo's environment: no compilers, no Java, no Go; quick to make.
$(VENV)/.demo: $(VENV)/.python requirements/demo.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements/demo.txt
	$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.dev: $(VENV)/.python requirements/dev.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	$(INSTALL_PROJECT)
	@touch $@ $(VENV)/.demo

.PHONY: lint
lint: venv ## Check style, format and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)

.PHONY: format
format: venv ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: services
services: venv ## Get what the tests run for real: Kafka, an S3 and an SQS server, helm (into .services)
	$(BIN)/python -m tests.services.install

.PHONY: test
test: services ## Unit, conformance, integration and fault tests (ARGS="-k name" for some)
	$(PYTEST) --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: test-unit
test-unit: venv ## Only the tests that need no server
	$(PYTEST) tests/unit $(ARGS)

.PHONY: demo
demo: $(VENV)/.demo ## 1,000 messages through the worker into an embedded S3, checked (SINK=sqs: SQS; KEEP=1 leaves it running)
	$(BIN)/python -m demo $(ARGS)

.PHONY: bench
bench: services ## Measure against the published numbers and a hand-written consumer
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-rivals
bench-rivals: services ## Measure beside Benthos, Kafka Connect, Quix and the published design (installs them)
	$(BIN)/python -m bench.rivals $(ARGS)

.PHONY: profile
profile: services ## Where an event's time goes, stage by stage
	$(BIN)/python -m bench.stages $(ARGS)

.PHONY: scale
scale: services ## Scale out and in on real workers, with the autoscaler in the loop, and on paper (8 minutes a part)
	$(BIN)/python -m bench.scale $(ARGS)

.PHONY: soak
soak: services ## An hour with a fault every two minutes, ending with verify (ARGS="--minutes 4 --first 15 --every 17")
	$(BIN)/python -m bench.soak $(ARGS)

.PHONY: docs
docs: venv ## Write docs/configuration.md from the settings and docs/metrics.md from the collector
	$(BIN)/python -m streams.configuration_docs
	$(BIN)/python -m streams.metrics_docs
	$(BIN)/python -m tests.helm.generate

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: image
image: ## Build the container image (ENGINE=podman for another engine)
	$(or $(ENGINE),docker) build --tag streams:$(VERSION) \
		--build-arg VERSION=$(VERSION) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
		--build-arg SOURCE=$$(git config --get remote.origin.url 2>/dev/null | sed 's#//[^/@]*@#//#' | grep . || echo unknown) .

# Flags that keep addresses and paths of the machine that ran it out of the files.
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-annotate \
	$(UPGRADE) pyproject.toml

.PHONY: requirements
requirements: venv ## Pin requirements/*.txt again after a change in pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(COMPILE) --extra=demo --extra=dev --output-file=requirements/dev.txt
	$(COMPILE) --extra=demo --constraint=requirements/dev.txt --output-file=requirements/demo.txt
	$(COMPILE) --constraint=requirements/dev.txt --output-file=requirements/run.txt
	@{ echo '# What building the project itself needs; of requirements/dev.txt, for the image (`make requirements` writes it).'; \
		awk '/^setuptools==/ {on = 1} /^    #/ {on = 0} on' requirements/dev.txt; } > requirements/build.txt

# From the pinned file alone: nothing of this machine's registries or paths can get into it.
SBOM := build/sbom.cdx.json

.PHONY: sbom
sbom: venv ## Write the bill of materials of what the worker runs with (CycloneDX) to build/sbom.cdx.json
	@mkdir -p $(dir $(SBOM))
	env -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements \
		--pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file $(SBOM) requirements/run.txt
	@echo $(SBOM)

.PHONY: audit
audit: venv ## Look the pinned packages up in PyPI's vulnerability data (needs that service; says so where it is missing)
	$(BIN)/python requirements/audit.py $(ARGS)
