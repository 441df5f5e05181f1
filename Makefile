# Each target sets up what it needs, so a fresh machine needs Python 3.11 or later and nothing by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-compiled test-quick lint format bench docs clean

run: $(STAMP)
	@$(BIN)/packetflow start config/node.toml --try 'ticket.open customer_id=C-1001 text="My card was stolen, call me on +44 20 7946 0018"'

test: $(STAMP)
	@$(BIN)/python -m pytest

# The same tests of the supervision runtime, and of a node on it, with its core compiled as a wheel holds it.
test-compiled: build/compiled/.made
	@PACKETFLOW_EXPECT=compiled PYTHONPATH=build/compiled:. $(BIN)/python -P -m pytest -m "not slow" tests/otp tests/node

build/compiled/.made: $(STAMP) pyproject.toml setup.py $(wildcard $(foreach room,packetflow/otp packetflow/otp/*,$(room)/*.py $(room)/*.pxd))
	@rm -rf build/compiled build/lib*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/compiled .
	@touch $@

test-quick: $(STAMP)
	@$(BIN)/python -m pytest -m "not slow"

lint: $(STAMP)
	@$(BIN)/ruff check packetflow modules examples tests bench
	@$(BIN)/ruff format --check packetflow modules examples tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP)
	@$(BIN)/ruff check --fix packetflow modules examples tests bench
	@$(BIN)/ruff format packetflow modules examples tests bench

bench: $(STAMP) build/compiled/.made
	@$(BIN)/python bench/run.py $(ONLY)

docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .bench-venvs site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(STAMP)
