# make demo and make test are all that a fresh machine needs: each makes the virtual environment,
# builds the package into it and installs what it runs.
#
#   PYTHON  the interpreter to make the environment with   (python3)
#   VENV    the environment                                (.venv)
#   ARGS    more arguments for pytest, or for the bench
#   WORKERS how many tests run at once                     (3)

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 3

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
BUILD := build

# A stamp a state of the environment.  Another PYTHON makes another environment.
CREATED := $(VENV)/.stamp-created-$(subst /,_,$(PYTHON))
INSTALLED := $(VENV)/.stamp-installed
GROUP = $(VENV)/.stamp-group-
WHEEL := dist/.stamp
TEST_PYTHONS := $(BIN)/python tools/test-pythons $(BUILD)/pythons dist/aiopip-*.whl

# Folders too, so that a removed file counts as a change.
SOURCES := pyproject.toml aiopip_cli.py meson.build meson.options README.md LICENSE \
	$(shell find native aiopip -name __pycache__ -prune -o ! -path 'native/tests*' -print)
C_SOURCES = $(shell find bench native examples tests -name '*.[ch]')

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install demo test test-pythons stress bench docs lint format wheel clean
help:
	@echo "make demo | test | test-pythons | stress | bench | docs | lint | format | wheel | clean"

$(CREATED):
	@tools/make-venv "$(PYTHON)" "$(VENV)"
	@touch $@

$(INSTALLED): $(CREATED) $(SOURCES)
	@echo "pip install .[examples]"
	@$(PIP) install -q '.[examples]'
	@touch $@

$(GROUP)%: pyproject.toml $(CREATED)
	@echo "pip install --group $*"
	@$(PIP) install -q --group $*
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/unmodified.py
	$(BIN)/python examples/heat.py
	$(BIN)/python examples/wordcount.py
	$(BIN)/python examples/exchange.py
	$(BIN)/python examples/drawing.py

# All are run, whatever the first one says.  With ARGS, some tests on one Python are what is wanted.
test: $(INSTALLED) $(GROUP)test $(GROUP)wheel $(if $(ARGS),,$(WHEEL))
	@status=0; \
	tools/native-tests $(BIN) $(BUILD)/native-tests || status=1; \
	echo "$(BIN)/pytest -n $(WORKERS) $(ARGS)"; \
	$(BIN)/pytest -n $(WORKERS) $(ARGS) || status=1; \
	$(if $(ARGS),,$(TEST_PYTHONS) || status=1;) \
	exit $$status

# On the other Pythons of the machine.
test-pythons: $(WHEEL)
	$(TEST_PYTHONS) $(ARGS)

stress: $(INSTALLED) $(GROUP)test
	$(BIN)/pytest -m stress --timeout 3600 $(or $(ARGS),tests)

# How fast it is, beside others; what the documents show of it: make bench ARGS=--write.
bench: $(INSTALLED) $(GROUP)bench
	$(BIN)/python -m bench $(ARGS)

docs: $(INSTALLED) $(GROUP)docs
	$(BIN)/sphinx-build -W --keep-going -n -q docs $(BUILD)/docs
	@echo $(BUILD)/docs/index.html

lint: $(INSTALLED) $(GROUP)test $(GROUP)lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	tools/lint-native $(BIN) $(BUILD)/native-lint

format: $(GROUP)lint
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_SOURCES)

wheel: $(WHEEL)
	@ls dist/aiopip-*.whl

$(WHEEL): $(GROUP)wheel $(SOURCES) tools/make-wheel
	tools/make-wheel $(BIN) dist
	@touch $@

clean:
	rm -rf $(VENV) $(BUILD) demo-output dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
