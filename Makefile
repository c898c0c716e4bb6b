# Every target makes what it needs: `make demo` and `make test` work on a fresh clone.
# ARGS goes to the command at the end, for example `make demo ARGS="--port 8001"`.

.DEFAULT_GOAL := help
.PHONY: help demo example test check bench docs serve-docs constraints clean

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt --build-constraint constraints.txt
ARGS ?=

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.server  ## Run the chat demo on http://127.0.0.1:8000
	@$(BIN)/busway demo $(ARGS)

example: $(VENV)/.example  ## Start the example applications for Django on http://127.0.0.1:8000
	@$(BIN)/python examples/manage.py migrate --verbosity 0
	@$(BIN)/python examples/manage.py demo
	@$(BIN)/python examples/manage.py runserver $(ARGS)

test: $(VENV)/.test  ## Run the whole test suite, on all cores
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/.check  ## Lint, formatting, types, import contract, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/command-line-page --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(VENV)/.test  ## Measure beside Channels 4 and a bare echo; writes bench/RESULTS.md
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.check  ## Build the documentation into build/site
	$(BIN)/python scripts/command-line-page
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

serve-docs: $(VENV)/.check  ## Read the documentation on http://127.0.0.1:8100, as it is edited
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8100

constraints:  ## Renew constraints.txt with the current versions of everything
	./scripts/constraints

clean:  ## Remove everything that was made, the virtual environment included
	rm -rf $(VENV) bench/.venv-* build dist js/node_modules .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@./scripts/venv $(VENV)

$(VENV)/.server: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Busway into $(VENV)…"
	@$(INSTALL) --editable '.[server]'
	@touch $@

$(VENV)/.example: $(VENV)/.server
	@echo "Installing what the examples need into $(VENV)…"
	@$(INSTALL) --editable '.[server,django]' --group example
	@touch $@

$(VENV)/.test: $(VENV)/.server
	@echo "Installing what the tests need into $(VENV)…"
	@$(INSTALL) --editable '.[server,django,jwt,encryption]' --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "Installing what the checks need into $(VENV)…"
	@$(INSTALL) --group lint --group docs
	@touch $@
