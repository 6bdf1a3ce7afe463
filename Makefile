# Two commands on a fresh machine: `make train` and `make test`. Each makes .venv first if need be.
# PYTHON chooses the interpreter (3.10 to 3.13); ARGS goes to the program: `make train ARGS="arch=resnet epochs=5"`.

PYTHON ?=
ARGS ?=
FAST ?=
NAME ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup train test contract experiments notebooks docs check clean

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target does; do \
	  printf '  make %-11s %s\n' "$$target" "$$does"; done
	@echo '  PYTHON=python3.12 chooses the interpreter, ARGS="arch=resnet" goes to train.py or to pytest'

setup: $(READY) ## make .venv with everything that Costate needs
	@echo 'Ready: $(VENV)'

train: $(READY) ## run the main job on the digits that come with scikit-learn
	@$(BIN)/python train.py $(ARGS)

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile $(ARGS)

contract: $(READY) ## run the tests that concern one new file of conf/: make contract NAME=midpoint
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --contract "$(NAME)" -rs $(ARGS)

# Runs are kept in runs/experiments: those that have ended are not repeated.
experiments: $(READY) ## run every experiment and write RESULTS.md (FAST=1: an epoch of each; ARGS="dni_mlp --seeds 0")
	@$(BIN)/python -m costate.experiments $(if $(filter-out 0,$(FAST)),--fast) $(ARGS)

# Runs are kept in runs/notebooks: a second time they are read. What is rendered, the next `make docs` shows.
notebooks: $(READY) ## run the notebooks from top to bottom (ARGS="notebooks/quickstart.ipynb" for one)
	@for notebook in $(or $(ARGS),notebooks/*.ipynb); do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter nbconvert --log-level=ERROR --execute \
	    --ExecutePreprocessor.timeout=600 --to markdown --output-dir docs/notebooks "$$notebook" || exit 1; \
	  echo "$$notebook: docs/notebooks/$$(basename "$$notebook" .ipynb).md, its runs in runs/notebooks"; \
	done

# Strict: a warning is an error.
docs: $(READY) ## build the docs into build/docs, to be read without a network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Written: build/docs/index.html'

# Whether an import is ours depends on other files, which ruff's cache does not know.
check: $(READY) ## lint, formatting, types, and whether README and docs name what is there
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/docs -m '' --numprocesses=auto --maxprocesses=4

clean: ## remove .venv and every cache; runs/ and data/ stay
	@rm -rf $(VENV) build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Of what pip says: at which package it is, on one line; complaints as they are; and its exit code.
define TELL
{ n=0; while read -r word name rest; do case "$$word $$name $$rest" in \
  'Collecting '*) n=$$((n + 1)); printf '\r  %3d packages, now %-48.48s' $$n "$$name";; \
  'Installing collected'*) printf '\r  %3d packages: installing them ...%-40s\n' $$n '';; \
  ERROR:*|error:*|*' depends on '*|'The user requested'*) echo "$$word $$name $$rest";; \
  'code '*) exit $$name;; \
esac; done; }
endef

# The first Python that is new enough and can make an environment; pip is the last thing that appears in one.
define MAKE_VENV
for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python); do \
  if "$$python" -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then \
    exec "$$python" -m venv $(VENV); \
  fi; \
done; \
echo 'No Python 3.10 to 3.13 with venv is on the path: install one, or name it with PYTHON=...' >&2; exit 1
endef

# PyPI's torch for Linux brings gigabytes of CUDA. Without a GPU, take the CPU build wherever one is on offer.
define INSTALL_CPU_TORCH
nvidia-smi >/dev/null 2>&1 || \
  $(BIN)/python -c 'from importlib.metadata import version; assert version("torch").startswith("$(TORCH)")' 2>/dev/null || \
  echo '  torch $(TORCH), the build for CPUs (about 200 MB) ...' && \
  $(PIP) install --quiet --no-deps --retries 1 --timeout 10 --extra-index-url $(TORCH_CPU_INDEX) \
    torch==$(TORCH)+cpu 2>/dev/null || echo 'No CPU build of torch is on offer here: taking the ordinary one.'
endef

$(READY): pyproject.toml constraints.txt src/costate.pth
	@test -x $(BIN)/pip || { $(MAKE_VENV); }
	@echo 'Installing into $(VENV) (a few minutes the first time) ...'
	@$(INSTALL_CPU_TORCH)
	@{ $(PIP) install --progress-bar off -c constraints.txt -e '.[dev]' 2>&1; echo "code $$?"; } | $(TELL)
	@touch $@
