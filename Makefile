# Every target sets up what it needs: the environment is built once, from the lock file, by pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?= slaegan-data

.DEFAULT_GOAL := help
.PHONY: help setup demo up test browser screenshots check format bench bench-train bench-metrics bench-generate bench-codes families halving chaos fuzz fuzz-api load openapi openapi-release study ablation lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; this is " + sys.version + ". Say make PYTHON=python3.12, for example.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP) ## Build the environment in .venv from the lock file

demo: $(STAMP) ## Train on the bundled pictures; results in demo-output/
	$(BIN)/slaegan demo --output demo-output

up: $(STAMP) ## Start the whole stack, data in DATA=slaegan-data
	$(BIN)/slaegan up --data $(DATA)

# Two at a time, a file each, with servers of their own, the longest first; but one after the other where real
# processes are timed. Playwright keeps a loop of asyncio running in its process: no other test may run there.
IN_PAIRS := --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: $(STAMP) ## Run every test that this machine can run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PAIRS) -m "not alone" tests/e2e tests/unit tests/integration tests/gpu
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PAIRS) tests/browser
	$(BIN)/python -m pytest -m alone tests/e2e

browser: $(STAMP) ## Run the tests of the dashboard in Chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(IN_PAIRS) tests/browser

screenshots: $(STAMP) ## Write pictures of the dashboard's pages into build/screenshots, and a few into docs/screenshots
	$(BIN)/python -m tests.browser.screenshots

check: $(STAMP) ## Lint, types, architecture, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python requirements/audit.py

format: $(STAMP) ## Format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-train bench-metrics bench-generate ## Run every benchmark; each prints JSON, one object a line

bench-train: $(STAMP) ## Time a training step against the textbook's, and a first step
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.first_step

bench-metrics: $(STAMP) ## Time an evaluation against torch-fidelity's FID
	$(BIN)/python -m benchmarks.metrics $(OPTIONS)

# Half an hour of an otherwise idle machine for each set of pictures; what is finished is not run again.
families: $(STAMP) ## Compare all families at equal wall time, on PICTURES="name=folder ..."; goes on where it was
	$(BIN)/python -m benchmarks.families --pictures $(PICTURES) $(OPTIONS)

bench-generate: $(STAMP) ## Time 16 pictures at 256x256, in a warm process and a cold one
	$(BIN)/python -m benchmarks.generate $(OPTIONS)

halving: $(STAMP) ## Train every family through the service until its KID has halved, on PICTURES=folder; ten minutes each at most
	$(BIN)/python -m benchmarks.halving --pictures $(PICTURES) $(OPTIONS)

bench-codes: $(STAMP) ## Time training on latent codes against training on pictures, and what decoding loses
	$(BIN)/python -m benchmarks.codes $(OPTIONS)

CYCLES ?= 15
SEED ?= 1
chaos: $(STAMP) ## Kill everything at seeded moments, CYCLES=15 SEED=1, and prove that nothing is lost or doubled
	$(BIN)/python -m benchmarks.chaos --cycles $(CYCLES) --seed $(SEED) $(OPTIONS)

MUTANTS ?= 10000
fuzz: $(STAMP) ## Send MUTANTS=10000 mutated pictures through the decoding process, from SEED=1
	SLAEGAN_FUZZ_MUTANTS=$(MUTANTS) SLAEGAN_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/unit/datasets/test_fuzz_pictures.py

load: $(STAMP) ## Measure every target of the service's speed and recovery; eight minutes, OPTIONS=--quick for a try-out
	$(BIN)/python -m benchmarks.load $(OPTIONS)

# The document does not depend on them, but nothing of the service is made without addresses.
openapi: export DATABASE_URL := postgresql://none/none
openapi: export BROKER_URL := redis://none
openapi: export STORAGE_URL := file:///none
openapi: $(STAMP) ## Write the OpenAPI document into docs/openapi.json
	$(BIN)/python -m api.document docs/openapi.json

openapi-release: openapi ## At a release: make this document the one that later ones must not break
	cp docs/openapi.json docs/openapi-released.json

FUZZ_EXAMPLES ?= 500
fuzz-api: $(STAMP) ## Ask every operation with made-up data, FUZZ_EXAMPLES=500 times, others on each run
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest --timeout 3600 tests/integration/api/test_conformance.py

study: $(STAMP) ## Say of PICTURES="name=folder ..." the metrics' floors, and what they make of a memoriser
	$(BIN)/python -m benchmarks.metrics_study --pictures $(PICTURES) $(OPTIONS)

# Hours for all seeds and variants; what is finished is not run again. Options of benchmarks/ablation.py go into OPTIONS.
SUITE ?= table2
ablation: $(STAMP) ## Ablate the trainer, SUITE=table2, on PICTURES="name=folder ..."; goes on where it was
	$(BIN)/python -m benchmarks.ablation --suite $(SUITE) $(if $(PICTURES),--pictures $(PICTURES)) $(OPTIONS)

COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --constraint requirements/pins.txt \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
# pip-compile lists this project itself where an extra refers to another; a lock file names only what it stands on.
DROP_SELF = sed -i '/^slaegan @/d; /^\# WARNING: pip install will require/d; /^\# Consider using a hashable URL/d'
lock: $(STAMP) ## Renew the lock files from pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(UPGRADE) --extra dev --output-file requirements/dev.txt pyproject.toml
	for part in api worker; do \
	  $(COMPILE) --constraint requirements/dev.txt --extra $$part --extra otel --output-file requirements/$$part.txt pyproject.toml; \
	done
	$(DROP_SELF) requirements/dev.txt requirements/api.txt requirements/worker.txt

clean: ## Remove caches and demo-output (not your data)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build demo-output
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
