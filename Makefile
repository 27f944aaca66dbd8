# Thin wrappers: each target is one command that can be typed by hand.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
# uv from the path, else a copy of this checkout's own, so that a Python with pip is all that has to be there.
UV := $(shell command -v uv 2>/dev/null || echo $(CURDIR)/.uv/bin/uv)
export PATH := $(dir $(UV)):$(PATH)
export DAGSTER_DISABLE_TELEMETRY := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
# A platform is a dozen Python processes, and each would compile the project's own modules anew.
unexport PYTHONDONTWRITEBYTECODE
RUN := $(UV) run --frozen --no-sync
STAMP := .venv/.installed
DBT_PACKAGES := $(wildcard dbt_project/packages.yml dbt_project/dependencies.yml)
# Bytecode is compiled at install: a platform is a dozen Python processes, and each would compile its imports by itself
# wherever Python may not write beside the packages. The SQL analyzer is compiled for the same reason.

.PHONY: help install demo up down status docs test test-long chaos lint lint-deploy dbt-check format reference clean definitions pull-request pull-request-drop image roll-out deployed on-call-plan

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(CURDIR)/.uv/bin/uv:
	@echo "uv is not on the path: installing it into .uv"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv

$(STAMP): pyproject.toml uv.lock sandbox/warehouse/pyproject.toml sandbox/warehouse/uv.lock $(DBT_PACKAGES) | $(UV)
	@echo "installing the locked environments (a minute or two the first time)"
	@$(UV) sync --frozen --quiet --compile-bytecode --project sandbox/warehouse
	@sandbox/warehouse/.venv/bin/python -m googlesql & analyzer=$$!; \
	  $(UV) sync --frozen --quiet --compile-bytecode && wait $$analyzer
	@if [ -n "$(DBT_PACKAGES)" ]; then $(RUN) dbt --quiet deps --project-dir dbt_project --profiles-dir dbt_project; fi
	@touch $@

install: $(STAMP) ## Install the locked environments (.venv and sandbox/warehouse/.venv)

demo: $(STAMP) ## Set up everything, materialize the whole graph and print what moved
	@$(RUN) sandbox demo

up: $(STAMP) ## Start the stand-ins, the Dagster UI, its daemon and the code location
	@$(RUN) sandbox up

down: ## Stop everything that `up` or `demo` started
	@test ! -x .venv/bin/sandbox || $(RUN) sandbox down

status: $(STAMP) ## Say what runs, and where
	@$(RUN) sandbox status

docs: $(STAMP) ## Generate dbt's documentation and serve it (the sandbox has to be up)
	@$(RUN) dataplatform docs

# The end-to-end ones by themselves: beside others on two cores, their dozen processes took twice as long, and all together longer.
test: $(STAMP) ## Run the tests
	@$(RUN) pytest -m "not long" --ignore tests/e2e --numprocesses 3 --dist loadfile --no-loadscope-reorder
	@$(RUN) pytest -m "not long" tests/e2e

test-long: $(STAMP) ## Run the tests that `test` leaves out: each signal, storms of alerts, dbt alone, events end to end, rare ways
	@$(RUN) pytest -m long

DURATION ?= 1200
SEED ?= 7
chaos: $(STAMP) ## Break data and platform at random (DURATION=1200 SEED=7), and count what nobody heard (docs/chaos.md)
	@$(RUN) python -m tests.chaos --duration $(DURATION) --seed $(SEED)

lint: $(STAMP) lint-deploy ## Format check, lint, types, import rules, SQL style, validity of all SQL, and what `lint-deploy` does
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) lint-imports
	@$(RUN) pyright
	@$(RUN) pyright --project pyrightconfig.tests.json
	@$(RUN) sqlfluff lint dbt_project
	@$(RUN) dataplatform dbt check
	@$(RUN) python -m product_events check

lint-deploy: $(STAMP) ## Dockerfile and shell, Compose and CircleCI against their schemas, the instance and Kubernetes' values
	@$(RUN) hadolint deploy/Dockerfile
	@for script in deploy/bin/*; do sh -n $$script || exit 1; done
	@for script in scripts/*.sh; do bash -n $$script || exit 1; done
	@$(RUN) check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.circle-ci .circleci/config.yml
	@$(RUN) pytest --basetemp .venv/.lint-deploy tests/deploy/test_files.py

dbt-check: $(STAMP) ## Have Google's analyzer judge the SQL of the dbt project, and of consumers in the saved state
	@$(RUN) dataplatform dbt check

format: $(STAMP) ## Format Python and SQL
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .
	@$(RUN) sqlfluff fix dbt_project

reference: $(STAMP) ## Write the pages of docs/reference that the code says itself
	@$(RUN) python scripts/reference.py

# What CI does beside `lint` and `test`: docs/developing.md.
definitions: $(STAMP) ## Load the code location with production's state, as the bucket has it
	@$(RUN) dataplatform refresh --from-bucket
	@$(RUN) dataplatform refresh --if-stale
	@$(RUN) dg check defs
	@$(RUN) dagster definitions validate

# A branch may be built before its pull request is opened, which starts no other pipeline.
NUMBER ?= $(or $(CIRCLE_PULL_REQUEST),$(CIRCLE_BRANCH))
pull-request: $(STAMP) ## Build what changed into datasets of its own, and drop them (NUMBER=12, or the name of a branch)
	@$(RUN) dataplatform dbt ci "$(NUMBER)"

pull-request-drop: $(STAMP) ## Drop the datasets of a pull request, where a job left any (NUMBER=12, or the name of a branch)
	@$(RUN) dataplatform dbt drop --pull-request "$(NUMBER)"

COMMIT ?= $(shell git rev-parse HEAD)
IMAGE ?= dataplatform
image: $(STAMP) ## Build the image of this commit with production's state in it, and push it (IMAGE=registry/name)
	@DATAPLATFORM_STATE_DIR=deploy/state $(RUN) dataplatform refresh --from-bucket
	docker build --file deploy/Dockerfile --build-arg GOOGLE_CLOUD_PROJECT --build-arg BIGQUERY_RAW_PROJECT --build-arg BIGQUERY_LOCATION --build-arg COMMIT=$(COMMIT) --tag $(IMAGE):$(COMMIT) .
	docker push $(IMAGE):$(COMMIT)

roll-out: $(STAMP) ## Have production run the image of this commit (IMAGE=registry/name DEPLOY_TO=kubernetes or compose)
	scripts/roll_out.sh $(IMAGE) $(COMMIT)

deployed: $(STAMP) ## Wait until production runs this commit
	@$(RUN) dataplatform dbt deployed $(COMMIT)

on-call-plan: $(STAMP) ## Compare incident.io with deploy/on_call.yaml
	@$(RUN) dataplatform on-call plan

clean: down ## Stop everything and delete the sandbox's state and the environments; your own .env is kept
	@rm -rf .sandbox .state .venv sandbox/warehouse/.venv .uv dbt_project/target
	@! grep -qs '^# Written by `sandbox up`' .env || rm .env
