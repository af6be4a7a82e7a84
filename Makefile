# LAPOR! Pontianak. `make help` lists what there is; every target makes what it needs by itself.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help demo run test attack chaos bench lint format lock clean compose compose-up compose-down

help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-21s %s\n", $$1, $$2}'

.venv/installed: requirements.lock requirements-dev.lock deploy/local/bootstrap.sh
	@sh deploy/local/bootstrap.sh

demo: .venv/installed ## Complaints through the whole procedure, on real servers, then stop
	@$(PY) -m deploy.cli demo $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(SECURE),--secure)

run: .venv/installed ## The whole system, running until Ctrl-C; REPLICAS=3: three of each server; SECURE=1: locked
	@$(PY) -m deploy.cli up $(if $(FRESH),--fresh) $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(SECURE),--secure)

test: .venv/installed ## All tests, two files at a time (JOBS=n; 0: one, which can be debugged); PYTEST="-k media" passes options on
	@$(PY) -m pytest -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder $(PYTEST)

attack: .venv/installed ## Attacks on the running services: fuzzing, injection, floods, hostile pictures; SEED=n
	@LAPOR_ATTACK=full $(if $(SEED),LAPOR_ATTACK_SEED=$(SEED)) $(PY) -m pytest tests/attack --durations=10 $(PYTEST)

chaos: .venv/installed ## Faults on real processes, judged from outside, to docs/chaos.md; SEEDS=n, JOBS=2, REPLICAS=3, FULL=1
	@$(PY) -m tests.chaos $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(REPLICAS),--replicated 2) $(if $(FULL),--full)

bench: .venv/installed ## Speed beside floors, to docs/bench.md; ROWS="create whole-sop", QUICK=1, FULL=1, RESUME=1
	@$(PY) -m tests.load $(ROWS) $(if $(QUICK),--quick) $(if $(FULL),--full) $(if $(RESUME),--resume)

lint: .venv/installed ## What CI checks besides the tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

format: .venv/installed ## Format the code
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

lock: .venv/installed ## Write the lock files from what is installed
	@$(PY) -m deploy.lock

compose: ## The demo on containers of its own, then stop; needs Docker
	@sh deploy/compose/run.sh demo

compose-up: ## The whole system in containers, left running
	@sh deploy/compose/run.sh up

compose-down: ## Stop what compose-up started; the data stay
	@sh deploy/compose/run.sh down

clean: ## Remove the virtual environment, caches and the data of local runs
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build data *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
