# Every target works as the first command on a fresh machine with Python 3.11 or newer, pip and make.
# PYTHON=python3.12 chooses another interpreter (.venv is made anew for it), ARGS="tests/data -x" adds arguments
# to pytest, bench or bench-sample, FAULTS="one two" chooses faults, NAMES="half spin" recipes.

PYTHON ?= python3
ARGS ?=
FAULTS ?=
NAMES ?=

# The interpreter that was asked for, if one was.
ASKED := $(if $(filter command environment,$(origin PYTHON)),$(shell $(PYTHON) -V 2> /dev/null))
# Stamps carry a checksum of the directory and of ASKED: a tree that was moved or copied with its .venv, or is
# to have another interpreter, is installed anew.
HERE := $(shell { pwd; $(if $(ASKED),echo '$(ASKED)';) } | cksum | cut -d' ' -f1)
CORE := .venv/.core-$(HERE)
DEV := .venv/.dev-$(HERE)
DOCS := .venv/.docs-$(HERE)
PARITY := .venv/.parity-$(HERE)

PIP := .venv/bin/python -m pip --disable-pip-version-check install --only-binary=:all: -c constraints.txt
PYTEST := .venv/bin/python -m pytest -q -n 2

# quietly WHAT COMMAND...: says what is going on in one line, and shows the output only of what fails.
quietly = quietly() { echo "$$1"; shift; log=$$(mktemp); \
	"$$@" > "$$log" 2>&1 || { code=$$?; cat "$$log"; echo "failed: $$*"; rm -f "$$log"; exit $$code; }; \
	rm -f "$$log"; }; quietly

.PHONY: help demo test test-slow test-gpu test-kill lint faults fuzz claims bench bench-sample parity docs page constraints clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(CORE)  ## tune a small chat model on real conversations, in some minutes
	@.venv/bin/turnsmith run quickstart

test: $(DEV)  ## the fast tests
	@$(PYTEST) -m "not slow and not gpu and not kill" $(ARGS)

test-slow: $(DEV)  ## the tests that take longer or need real models
	@$(PYTEST) --dist loadfile -m "slow and not gpu" $(ARGS) || { code=$$?; test $$code = 5 && echo "no slow tests"; }

test-gpu: $(DEV)  ## the tests that need a CUDA device
	@$(PYTEST) -n 0 -m gpu $(ARGS)

test-kill: $(DEV)  ## kill real runs in every phase, and compare what comes of them; some minutes
	@$(PYTEST) -n 0 -m kill $(ARGS)

lint: $(DEV)  ## style, layers and types
	@.venv/bin/python -m ruff check
	@$(quietly) "checking the layers" .venv/bin/python .venv/bin/lint-imports
	@.venv/bin/python -m basedpyright

faults: $(DEV)  ## plant each fault of faults/ in a copy; the tests that it names must fail
	@.venv/bin/python tools/faults.py $(FAULTS)

fuzz: $(DEV)  ## a million broken inputs to all readers, an hour: ARGS="--inputs 10000 recipes"
	@.venv/bin/python tools/fuzz.py $(ARGS)

claims: $(CORE)  ## judge what the recipes claim, all or NAMES="half spin"; hours, and can be interrupted
	@.venv/bin/turnsmith claims $(NAMES) --record docs/results.json
	@.venv/bin/python tools/docs.py

bench: $(DEV)  ## one optimiser step beside Trainer and TRL: ARGS="--trainable lora"; a quiet machine, an hour
	@.venv/bin/python benchmarks/step.py $(ARGS)

bench-sample: $(DEV)  ## sampling beside transformers.generate and llama.cpp: ARGS="--batch 8"; a quiet machine
	@.venv/bin/python benchmarks/sample.py $(ARGS)

parity: $(PARITY)  ## our losses beside TRL's, our tasks beside LM Eval's on ../shared: ARGS="--model smollm2-135m-instruct"
	@.venv/bin/python -m pytest -q -n 0 -k as_trl tests/objectives
	@.venv/bin/python benchmarks/parity.py $(ARGS)

docs: $(DOCS)  ## write the generated pages, and build the site into site/
	@.venv/bin/python tools/docs.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

page:  ## build the page that `turnsmith serve` gives people anew, from page/; needs npm
	@$(quietly) "fetching what the page is built with" npm --prefix page ci --no-audit --no-fund
	@$(quietly) "building the page" npm --prefix page run build

constraints: $(DEV) $(DOCS)  ## write the installed versions into constraints.txt
	@{ grep '^#' constraints.txt; .venv/bin/python -m pip freeze --exclude-editable \
		| sed 's/+[a-z0-9.]*$$//' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove .venv, caches and builds; runs are kept
	@rm -rf .venv build dist site .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's Python comes without ensurepip: there, its own pip puts pip into .venv.
# torch comes first and alone, so that nothing else can draw in another build of it.
define base
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or newer is needed, and $(PYTHON) is not: try  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@if ! .venv/bin/python -c 'import pip' 2> /dev/null \
	|| { test -n '$(ASKED)' && test "$$(.venv/bin/python -V)" != '$(ASKED)'; }; then \
	$(quietly) "making .venv" sh -c '$(PYTHON) -m venv --clear .venv || { \
		$(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python .venv install pip; }'; fi
@$(quietly) "installing torch (once; some minutes on a slow line)" $(PIP) torch
@$(quietly) "installing hatchling" $(PIP) hatchling editables
endef

$(CORE): pyproject.toml constraints.txt
	$(base)
	@$(quietly) "installing turnsmith and what it needs" $(PIP) --no-build-isolation -e .
	@rm -f .venv/.core-* && touch $@

$(DEV): pyproject.toml constraints.txt
	$(base)
	@$(quietly) "installing turnsmith, what it needs, and what its tests need" $(PIP) --no-build-isolation -e ".[dev]"
	@rm -f .venv/.core-* .venv/.dev-* && touch $(CORE) $@

$(DOCS): $(CORE)
	@$(quietly) "installing what the pages need" $(PIP) --no-build-isolation -e ".[docs]"
	@rm -f .venv/.docs-* && touch $@

# Some of what the harness needs comes as source only.
$(PARITY): $(DEV)
	@$(quietly) "installing the LM Evaluation Harness" $(subst --only-binary=:all:,,$(PIP)) lm-eval
	@rm -f .venv/.parity-* && touch $@
