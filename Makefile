# Each command first creates the environment .venv, with the versions of
# requirements/constraints.txt. The first time compiles mmcv (about 2 minutes on 2 cores).
#   make demo  ARGS="..."   train the example detector, evaluate it, draw its boxes
#   make test  ARGS="..."   the tests, but for the slow ones
#   make setup PYTHON=...   only the environment
#   make setup CONSTRAINTS=requirements/onedl.txt   with other versions (kept until others are chosen)

PYTHON ?=
CONSTRAINTS ?=
ARGS ?=
PY := .venv/bin/python

.PHONY: help setup demo test test-slow test-training test-exhaustive docs lint format clean
.NOTPARALLEL:

help:
	@echo 'make demo       train the example detector, evaluate it, draw its boxes'
	@echo 'make test       run the tests, but for the slow ones'
	@echo 'make test-slow  run the slow tests; make test-training those that train for minutes'
	@echo 'make test-exhaustive  wrong values, odd numbers and two processes for every config'
	@echo 'make docs       build the documentation site into build/site'
	@echo 'make lint       check the code (ruff, mypy); make format fixes what it can'
	@echo 'make setup      only create the environment .venv'
	@echo 'make clean      remove what builds and tests left (not .venv, data/ and work_dirs/)'

setup:
	@PYTHON="$(PYTHON)" CONSTRAINTS="$(CONSTRAINTS)" bash scripts/setup.sh

demo: setup
	@$(PY) tools/demo.py $(ARGS)

test: setup
	@$(PY) -m pytest -n 2 --dist loadfile -m 'not slow and not training and not exhaustive' $(ARGS)

test-slow: setup
	@$(PY) -m pytest -m slow $(ARGS)

test-training: setup
	@$(PY) -m pytest -m training $(ARGS)

test-exhaustive: setup
	@$(PY) -m pytest -m exhaustive $(ARGS)

docs: setup
	@$(PY) -m sphinx --builder html --fail-on-warning --keep-going --quiet docs build/site
	@echo 'open build/site/index.html'

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: setup
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

clean:
	rm -rf build docs/api dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
