# `make bench` and `make test` do all set-up by themselves: the first one to run makes .venv, later ones find it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CLUSTER := $(VENV)/.installed-cluster
DOCS := $(VENV)/.installed-docs
# where a run writes, if not in the cache (boards) and build/ (measurements): RESULTS=results is what is committed
RESULTS ?=
BOARDS := $(if $(RESULTS),--results $(RESULTS))
MEASURED := $(or $(RESULTS),build)
JOBS ?= 2
METHODS := method=random,method=dm,method=dc,method=dsa,method=full

define RUN_SUITE
$(BIN)/distill-bench bench $(1) --jobs $(JOBS) $(if $(ONLY),--only "$(ONLY)") --results $(MEASURED)

endef

.PHONY: bench bench-all bench-speed bench-cost bench-scaling study-pruning study-recovery study-evaluator study-gradient study-difficulty reproduction reproduction-convnet reproduction-experts reproduction-mnist leaderboard test test-slow test-kills test-damage test-ray test-hostile lint typecheck docs clean

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

$(CLUSTER): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,cluster]"
	touch $@

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

bench: $(INSTALLED)  ## the digits leaderboard at IPC 1 and 10: a few minutes
	$(BIN)/distill-bench bench digits --only $(METHODS),ipc=1,ipc=10,seed=0,protocol=quick-v1 --jobs $(JOBS) $(BOARDS)

bench-all: $(INSTALLED)  ## every cell of the digits suite: all IPCs, seeds and protocols
	$(BIN)/distill-bench bench digits --jobs $(JOBS) $(BOARDS)

bench-speed: $(INSTALLED)  ## time evaluator and trajectory gradient against plain eager references: about three quarters of an hour on an idle machine
	$(BIN)/python benchmarks/speed/run.py --results $(MEASURED)/speed

bench-cost: $(INSTALLED)  ## seconds and memory against IPC, classes, side, steps, processes: a quarter of an hour on an idle machine
	$(BIN)/python benchmarks/scaling/cost.py --results $(MEASURED)/scaling

bench-scaling: $(CLUSTER)  ## two Ray nodes of one core against one: five minutes on an idle machine
	$(BIN)/python benchmarks/scaling/ray_nodes.py --results $(MEASURED)/scaling

# the suites of a study: of digits, then of further data, which ONLY leaves out unless SUITE names one
CHOSEN = $(or $(SUITE),$(if $(ONLY),$*),$(SUITES),$*)
RELEASED := random-cifar10-ipc1 kmeans-cifar10-ipc1 dc-cifar10-ipc1 dsa-cifar10-ipc1 dm-cifar10-ipc1 mtt-cifar10-ipc1
study-gradient: SUITES := gradient gradient-cifar10 gradient-fashion_mnist
study-evaluator: SUITES := evaluator evaluator-cifar10
study-evaluator: export DISTILL_BENCH_REGISTRY := results/reproduced/registry.toml
study-difficulty: SUITES := difficulty difficulty-fashion_mnist

study-pruning study-recovery study-evaluator study-gradient study-difficulty: study-%: $(INSTALLED)  ## docs/studies/….md and its figure anew in build/studies: hours; with ONLY=… some cells: minutes
	$(if $(filter evaluator-cifar10,$(CHOSEN)),$(BIN)/distill-bench download $(RELEASED))
	$(foreach suite,$(CHOSEN),$(call RUN_SUITE,$(suite)))
	$(BIN)/python scripts/$*_study.py $(MEASURED) --out $(if $(RESULTS),docs,build)/studies

reproduction reproduction-convnet reproduction-experts reproduction-mnist: $(INSTALLED)  ## docs/reproduction.md anew in build: days on a CPU; with ONLY=… some cells
	$(call RUN_SUITE,$@)
	$(BIN)/python scripts/reproduced_sets.py $(MEASURED) --curves 2
	$(BIN)/python scripts/reproduction.py $(MEASURED) --out $(if $(RESULTS),docs,build)

leaderboard: $(INSTALLED)  ## render every board again from the results
	$(BIN)/distill-bench leaderboard $(BOARDS)
	$(if $(RESULTS),$(BIN)/python scripts/set_pictures.py $(RESULTS))

test: export PYTHONDONTWRITEBYTECODE =  # what pytest makes of the tests is kept: each process would need ten seconds for it
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-kills: $(INSTALLED)  ## 50 SIGKILLs over nearly every method and stage, then the same bytes: five minutes on an idle core
	$(BIN)/python scripts/kill_suite.py --kills 50 --out $(MEASURED)/reliability

test-damage: $(INSTALLED)  ## 5,000 flips and 4,300 other harms to stored files, none of them silent: seven minutes on an idle core
	$(BIN)/python scripts/damage_suite.py --tries 9300 --out $(MEASURED)/reliability

test-ray: $(CLUSTER)  ## a real cluster of two nodes, one of them killed; two runners; the same bytes everywhere: minutes
	$(BIN)/python -m pytest tests/benchmark/test_ray.py tests/benchmark/test_suites.py -m slow -k "test_ray or two_runners"

test-hostile: $(INSTALLED)  ## more than 2,000 hostile and broken files, each refused as documented: minutes
	$(BIN)/python -m pytest -m slow tests/hostile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(INSTALLED)
	$(BIN)/mypy

docs: $(DOCS)  ## the site, with the API from the docstrings: build/site
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
