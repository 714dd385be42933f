# Every command of the project. `make` alone lists them.
#
# One virtual environment for each Python: `.venv` for python3, `.venv-3.13` for
# PYTHON=python3.13. What runs the platform gets what that needs; what tests, checks or
# builds adds the tools. A stamp is as new as what was installed, so a second start
# installs nothing. Variables given to make (PORT=9000) reach the commands too.
# Kept to what GNU make 3.81 knows: macOS ships no other.

PYTHON ?= python3
ARGS ?=
# Tests wait more than they compute: a few at a time, also where there are two cores.
# A file's tests stay together, because some files share a service. JOBS=0: in one process.
JOBS ?= 4
# In the order of their names, which puts the longest (faults) to the front.
PYTEST := -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifeq ($(filter 3.11 3.12 3.13 3.14,$(VERSION)),)
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
THERE := $(foreach n,3.14 3.13 3.12 3.11,$(wildcard $(addsuffix /python$n,$(subst :, ,$(PATH)))))
$(error $(PYTHON) is $(if $(VERSION),Python $(VERSION),not there), and Python 3.11 to 3.14 is needed: \
make $(firstword $(MAKECMDGOALS)) PYTHON=$(notdir $(or $(firstword $(THERE)),python3.13)))
endif
endif
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(VERSION))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# An environment with all tools also runs the platform.
LOCAL := $(VENV)/.installed-local
READY := $(if $(wildcard $(STAMP)),$(STAMP),$(LOCAL))
# A venv whose Python is gone (an upgrade, a moved checkout) is built anew.
BROKEN := $(shell $(BIN)/python -c '' 2>/dev/null || echo broken)

UV := uv==0.13.9
COMPILE := uv pip compile --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --quiet \
	--custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo reset test mutants crashtest oversell history fuzz check static quick graph format bench bench-relay bench-scale bench-cold bench-overload package secrets audit licences docs gateway terraform deploy migrate lock clean venv broken

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo 'Options: PYTHON=python3.13, ARGS="..." for the command behind a target,'
	@echo 'and any setting of the service: make run PORT=9000 EVENT_BUS=rabbitmq ...'

run: $(READY) ## start the whole platform on this machine (PORT=8080)
	@$(BIN)/python -m infra.local.run $(ARGS)

demo: $(READY) ## tell the story of an order against it, checking every step
	@$(BIN)/python -m infra.local.demo $(ARGS)

reset: ## forget the data of make run, keep what is installed
	@$(PYTHON) -m infra.local.reset $(ARGS)

test: $(STAMP) ## run every test (ARGS="-k approval" picks some)
	@$(BIN)/python $(PYTEST) $(ARGS)

mutants: $(STAMP) ## break the project on purpose, see its tests fail (ARGS="costs images")
	@$(BIN)/python -m tests.support.mutants $(ARGS)

crashtest: $(STAMP) ## kill, cut and restart for minutes (FAULT_SECONDS=60 CRASH_ROUNDS=3)
	@FAULT_SECONDS=$(or $(FAULT_SECONDS),60) CRASH_ROUNDS=$(or $(CRASH_ROUNDS),3) \
		$(BIN)/python -m pytest tests/faults --numprocesses 0 -q -s $(ARGS)

history: $(STAMP) ## check what 200 clients heard in a minute (HISTORY_SECONDS=60 HISTORY_SEED=7)
	@HISTORY_SECONDS=$(or $(HISTORY_SECONDS),60) HISTORY_CLIENTS=$(or $(HISTORY_CLIENTS),200) \
		$(BIN)/python -m pytest tests/faults/test_history.py --numprocesses 0 -q -s $(ARGS)

oversell: $(STAMP) ## sell scarce stock to crowds (OVERSELL_RUNS=20 OVERSELL_BUYERS=2000)
	@OVERSELL_RUNS=$(or $(OVERSELL_RUNS),20) OVERSELL_BUYERS=$(or $(OVERSELL_BUYERS),2000) \
		HISTORIES=$(or $(HISTORIES),5000) $(BIN)/python -m pytest tests/faults/test_oversell.py \
		tests/integration/test_holds_histories.py --numprocesses 0 -q -s $(ARGS)

# Its tests end with a table of what was tried; all orders that they made are audited.
fuzz: $(STAMP) ## send generated requests, messages and replies (FUZZ_TRIES=50000 FUZZ_SEED=1)
	@FUZZ_TRIES=$(or $(FUZZ_TRIES),50000) $(BIN)/python -m pytest tests/fuzz \
		--numprocesses $(JOBS) --dist worksteal --show-capture=no -q $(ARGS)

check: $(STAMP) ## the whole gate: secrets, audit, format, lint, types, layers, tests
	@# If an index does not know our releases (a mirror, or none available), the run says so
	@# and goes on, unless AUDIT=required. A known vulnerability always fails.
	@$(MAKE) --no-print-directory -j2 ARGS= AUDIT=$(or $(AUDIT),possible) secrets audit
	@$(BIN)/pip-licenses >/dev/null
	@$(MAKE) --no-print-directory ARGS= static
	@$(BIN)/python -m tests.support.terraform fmt validate
	@$(BIN)/python $(PYTEST) --cov --cov-report=term $(ARGS)

static: $(STAMP) ## only format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# What needs no server, and holds documents, events, layers and files to their rules.
QUICK := tests/unit $(patsubst %,tests/contract/test_%.py,openapi asyncapi events documented \
	layers tooling public_names docs_configuration gateway)
quick: static ## the gate of a minute or two: format, lint, types, layers, rules, documents
	@$(BIN)/python $(PYTEST) -q $(QUICK) $(ARGS)

graph: $(STAMP) ## draw who imports whom in common/ (ARGS=--json)
	@$(BIN)/python -m infra.graph $(ARGS)

format: $(STAMP) ## rewrite the code in the project's format, fix what can be
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure the service beside its ceilings (ARGS="--quick")
	@$(BIN)/python -m benchmarks.bench $(ARGS)

bench-relay: $(STAMP) ## measure the relay against RabbitMQ (ARGS="--events 10000")
	@$(BIN)/python -m benchmarks.bench_relay $(ARGS)

bench-scale: $(STAMP) ## measure at a million orders (ARGS="--orders 10000000")
	@$(BIN)/python -m benchmarks.bench_scale $(ARGS)

bench-cold: $(STAMP) ## measure cold starts beside the bare framework's (ARGS="--rounds 5")
	@$(BIN)/python -m benchmarks.bench_cold $(ARGS)

bench-overload: $(STAMP) ## measure overload and recovery (ARGS="--clients 400")
	@$(BIN)/python -m benchmarks.bench_overload $(ARGS)

package: $(STAMP) ## make a zip of each function in dist/ (ARGS=item_status)
	@$(BIN)/python -m infra.package $(ARGS)

# What is no secret although it looks like one is in .secrets.baseline: values in words,
# in the filter `should_exclude_secret`, for all files; what else there is in one file,
# as a hash. `detect-secrets scan --baseline .secrets.baseline FILE` adds to it. An archive
# of the repository is made one for a moment. The keys that Google hands out, which the
# scanner does not know, are looked for beside it; what was found is never shown.
GOOGLE_KEYS := AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{30}|GOOG1E?[0-9A-Z]{20}
secrets: $(STAMP) ## look for secrets in every file that git tracks
	@if ! git rev-parse 2>/dev/null; then \
		export GIT_DIR=$$(mktemp -d) GIT_WORK_TREE=.; trap 'rm -rf "$$GIT_DIR"' EXIT; \
		git init -q; git add .; \
	fi; \
	git ls-files -z | xargs -0 -n 150 -P 2 $(BIN)/detect-secrets-hook --no-verify \
		--baseline .secrets.baseline $(ARGS) && \
	! git grep --cached -lE '$(GOOGLE_KEYS)'

# A vulnerability that is lived with: its id, with the reason and the day to look again
# in a comment above.
ACCEPTED_VULNERABILITIES :=
PIP_AUDIT = $(BIN)/pip-audit --requirement requirements/dev.txt --require-hashes \
	--disable-pip --progress-spinner off $(ACCEPTED_VULNERABILITIES:%=--ignore-vuln %)

# pip-audit passes a release that its index does not know: for us, it was not audited.
audit: $(STAMP) ## check for known vulnerabilities (AUDIT=possible: go on if unknown)
	@mode=$(or $(AUDIT),required); case $$mode in required|possible) ;; \
		off) echo '*** AUDIT=off: no dependency was audited ***' >&2; exit;; \
		*) echo 'AUDIT must be required, possible or off' >&2; exit 2;; esac; \
	status=0; found=$$($(PIP_AUDIT) $(ARGS) 2>&1) || status=$$?; \
	unknown=$$(echo "$$found" | grep -c 'could not be audited'); \
	if echo "$$found" | grep -q '^Found [0-9]* known vulnerabilit'; then \
		echo "$$found" | sed '/Skip Reason/,$$d' >&2; exit 1; \
	elif [ $$status != 0 ]; then \
		echo "$$found" | tail -n 1 >&2; \
		gap='no dependency was audited: the index does not answer'; \
	elif [ $$unknown != 0 ]; then gap="the index does not know $$unknown releases"; \
	else echo 'No known vulnerability'; exit; fi; \
	echo "*** audit: $$gap ***" >&2; [ $$mode = possible ]

# The accepted licences are in pyproject.toml, [tool.pip-licenses].
licences: $(STAMP) ## list licences of dependencies, fail if one is not accepted
	@$(BIN)/pip-licenses $(ARGS)

docs: $(STAMP) ## build docs/ as a site in build/site (ARGS=--serve)
	@$(BIN)/python -m infra.docs_site $(ARGS)

gateway: $(STAMP) ## make dist/gateway.json for Google API Gateway (ARGS=--help)
	@$(BIN)/python -m infra.gateway $(ARGS)

terraform: $(STAMP) ## check infra/terraform: format, validity, rules (ARGS=fmt)
	@$(BIN)/python -m tests.support.terraform $(ARGS)

# ENV in the environment is a shell's start-up file: only what make is given counts.
deploy: $(STAMP) ## deploy to Google Cloud (ENV=staging FUNCTION=item_status ARGS=--dry-run)
	@$(BIN)/python -m infra.deploy $(FUNCTION) \
		$(if $(filter command,$(origin ENV)),--environment $(ENV)) $(ARGS)

migrate: $(READY) ## bring the database of DATABASE_URL to the newest schema
	@$(BIN)/orderctl migrate $(ARGS)

lock: ## pin the newest allowed requirements, with hashes (ARGS=--upgrade)
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install -qq '$(UV)'; \
	PATH="$$folder/bin:$$PATH"; \
	$(COMPILE) pyproject.toml $(ARGS) --output-file requirements/runtime.txt; \
	$(COMPILE) pyproject.toml $(ARGS) --extra local --extra otel \
		--constraint requirements/runtime.txt --output-file requirements/local.txt; \
	$(COMPILE) pyproject.toml $(ARGS) --all-extras \
		--constraint requirements/local.txt --output-file requirements/dev.txt; \
	$(COMPILE) pyproject.toml $(ARGS) --extra otel \
		--constraint requirements/dev.txt --output-file requirements/workers.txt; \
	$(COMPILE) requirements/terraform.in $(ARGS) \
		--output-file requirements/terraform.txt

clean: ## remove environments, local data and caches
	@set -e; elsewhere=.local/postgres/elsewhere; \
	if [ -L $$elsewhere ]; then rm -rf "$$(readlink $$elsewhere)"; fi
	@rm -rf .venv .venv-* .venv*.lock .local .coverage .coverage.* htmlcov build dist *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(STAMP) ## install what the other commands need, and nothing else

$(STAMP): requirements/dev.txt pyproject.toml $(BROKEN)
	@$(PYTHON) -m infra.environment $(VENV) dev

$(LOCAL): requirements/local.txt pyproject.toml $(BROKEN)
	@$(PYTHON) -m infra.environment $(VENV) local
