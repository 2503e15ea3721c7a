# make run     install into .venv and start everything; Ctrl-C stops it       ARGS="--data DIR ..."
# make test    install what the tests need and run them all                   ARGS="-k name"
# make again   run once more what failed the last time, one test at a time
# make lint    ruff, mypy and the import contracts
# make fuzz    50,000 made-up requests in all modes                           ARGS="--cases 5000 --seed 7"
# make damage  a million damaged shards: found, not served, mended            ARGS="--count 20000 --seed 7"
# make audit   bandit, and pip-audit over constraints.txt, which asks pypi.org
# make bench   measure this machine, with floors beside every figure          ARGS="--quick"
# make picture draw docs/page.png, the picture of the page in README; needs Chromium
# make clean   remove what make made; never ./data
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
# Processes that tests run in: they wait for servers more than they compute, also on two cores.
JOBS ?= 4

.PHONY: run test again lint fuzz audit damage bench clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed
	@$(BIN)/zerostor up $(ARGS)

test: $(VENV)/.test-installed
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

again: $(VENV)/.test-installed
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.test-installed
	@$(BIN)/python -m tests.fuzz $(ARGS)

damage: $(VENV)/.test-installed
	@$(BIN)/python -m tests.damage $(ARGS)

audit: $(VENV)/.test-installed
	@$(PIP) bandit pip-audit
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive gateway sshgw workers zerostor
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

bench: $(VENV)/.test-installed
	@$(BIN)/zerostor bench $(ARGS)

picture: $(VENV)/.test-installed
	@$(BIN)/python -m tests.picture

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache
	find gateway sshgw workers zerostor tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "zerostor needs Python 3.11 or newer; name one, as in: make PYTHON=python3.13 run" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (once; half a minute)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	@echo "installing what the tests need"
	@$(PIP) -e '.[test]'
	@touch $@
