# Every target sets the machine up first; a second run finds that done and goes on at once.
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup lab labs test check bench down

help:    ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup:   ## environment in .venv, system tools, kubectl
	@scripts/setup.sh

lab: setup    ## the mesh up, JupyterLab open on the first lab (FRESH=1 restores the notebooks)
	@$(PY) -m meshlab.lab.open $(if $(FRESH),--fresh)

labs: setup   ## every notebook by papermill, report in build/labs/
	@$(PY) -m meshlab.lab.run

test: setup check   ## everything: style, types, import contracts, tests, the labs
	@$(PY) -m pytest

check: setup  ## style, types, import contracts
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

bench: setup  ## our proxy and Envoy on the same file, side by side
	@$(PY) -m bench.run

down: setup   ## delete the cluster: no process, namespace, rule or file stays
	@.venv/bin/meshlab down
