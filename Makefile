# Needs make, git and any Python from 3.10 to 3.13, and an index that pip can reach the first time. Everything is
# installed into .venv, which "make clean" removes; a target installs again only when what it installs has changed.
#
#   make test ARGS="-k envelope"      passes arguments on to pytest
#   make test PYTHON=python3.12       chooses the interpreter (after "make clean")

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

VENV   := .venv
RUN    := $(VENV)/bin/python
PYTHON :=
ARGS   :=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# What points at another Python's packages must not reach ours.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV
# Images for containers set it. The tests start hundreds of processes: without byte code each of them compiles us anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:
	@echo "make demo      start three nodes and watch requests travel between them"
	@echo "make test      run the tests, in parallel"
	@echo "make soak      run the long tests, in parallel"
	@echo "make fuzz      feed everything that reads bytes with mutated input for five minutes"
	@echo "make faults    make 50,000 calls while everything fails, and check what callers were told"
	@echo "make bench     measure us beside our peers (ARGS=remote: one part, in under a minute)"
	@echo "make lint      check style and format          make format    write them"
	@echo "make types     check types                     make imports   check who imports whom"
	@echo "make wheel     build the wheel and test it away from the checkout"
	@echo "make tox       run everything that tox.ini lists, two environments at a time"
	@echo "make docs      write the tables of docs/options.md and docs/performance.md"
	@echo "make coverage  say which lines no test runs (server processes left out)"
	@echo "make clean     remove what all of these made"

# -- environment ------------------------------------------------------------------------------------------------------

# The pip that comes with Python, as a file: run from there it has installed uv sooner than it would be installed itself.
# Debian keeps it elsewhere.
PIP_WHEEL := import ensurepip, glob; \
  print((glob.glob(ensurepip.__path__[0] + "/_bundled/pip-*") + glob.glob("/usr/share/python-wheels/pip-*") + [""])[0])

# A virtual environment does not survive a move: one that was made elsewhere is made anew.
ifneq "$(shell cat $(VENV)/made-in 2>/dev/null)" "$(CURDIR)"
.PHONY: $(VENV)/made-in
endif

$(VENV)/made-in:
	@seen=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3.10 python3 python); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$("$$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	    rm -rf $(VENV) && "$$python" -m venv --without-pip $(VENV) || exit 1; \
	    PYTHONPATH="$$("$$python" -c '$(PIP_WHEEL)')" $(RUN) -m pip install --quiet --quiet uv || \
	      echo "uv is not to be had: pip takes a minute longer"; \
	    printf '%s\n' "$(CURDIR)" >$@ && exit 0 || exit 1; \
	  fi; \
	  seen="$$seen $$python"; \
	done; \
	echo "No usable Python 3.10 or newer was found$(if $(PYTHON), under the name $(PYTHON))." >&2; \
	if [ -n "$$seen" ]; then \
	  echo "Without its venv module:$$seen. On Debian and Ubuntu: apt install python3-venv" >&2; \
	else \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	fi; \
	exit 1

# $(VENV)/has-X: the package, editable, with its extra X. uv does in seconds what takes pip a minute.
$(VENV)/has-%: $(VENV)/made-in setup.cfg setup.py pyproject.toml
	@echo "installing catga_sync[$*] into $(VENV)"
	@$(RUN) -m uv pip install --quiet --python $(RUN) --editable ".[$*]" || \
	  { $(RUN) -m ensurepip >/dev/null && $(RUN) -m pip install --quiet --quiet --editable ".[$*]"; }
	@touch $@

# -- what one does ----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/has-demo
	@$(RUN) examples/demo/run.py $(ARGS)

.PHONY: test
test: $(VENV)/has-test
	@$(RUN) -m pytest -n auto --dist loadgroup $(ARGS)

# What else tries all of its examples here is tests/thorough.py. Tests that take all of the machine for long are in the
# group "soak", so that one runs at a time. pytest's 5 is "no test": there need not be a long one.
.PHONY: soak
soak: $(VENV)/has-test
	@CATGA_TESTS_THOROUGH=1 $(RUN) -m pytest -n auto --dist loadgroup --slow -m "slow or thorough" $(ARGS) || [ $$? -eq 5 ]

.PHONY: fuzz
fuzz: $(VENV)/has-fuzz
	@$(RUN) -m tests.fuzz $(ARGS)

.PHONY: faults
faults: $(VENV)/has-test
	@$(RUN) -m tests.faults.battery $(ARGS)

.PHONY: bench
bench: $(VENV)/has-bench
	@$(RUN) -m benchmarks.bench $(ARGS)

.PHONY: lint types imports wheel
lint types imports wheel: $(VENV)/has-tox
	@$(RUN) -m tox run --quiet -e $@

# pyenv hides the interpreters that are not selected; tox is to see them all.
.PHONY: tox
tox: $(VENV)/has-tox
	@for bin in "$$(pyenv root 2>/dev/null)"/versions/3.1*/bin; do PATH="$$PATH:$$bin"; done; \
	  $(RUN) -m tox run-parallel --parallel 2 --parallel-no-spinner $(ARGS)

.PHONY: format
format: $(VENV)/has-lint
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

.PHONY: docs
docs: $(VENV)/has-dev
	@$(RUN) docs/make_options.py
	@$(RUN) docs/make_performance.py

.PHONY: coverage
coverage: $(VENV)/has-dev
	@$(RUN) -m coverage erase
	@$(RUN) -m coverage run -m pytest --quiet -m "not process" $(ARGS)
	@$(RUN) -m coverage combine --quiet
	@$(RUN) -m coverage report

.PHONY: clean
clean:
	rm -rf $(VENV) .tox build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .fuzz .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
