# One command each; all of them work on a fresh machine with Python 3.11 to 3.13.
PYTHON ?= python3
SEED ?= 0
VENV := .venv
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest --durations=10

.PHONY: demo test test-slow lint torch bench clean

demo: $(VENV)/installed  ## data set, training, COCO AP, pictures
	$(RUN) train.py --config configs/shapes.py --workdir runs/shapes-$(SEED) --seed $(SEED) --data.root shapes:$(SEED)
	$(RUN) eval.py --workdir runs/shapes-$(SEED)

test: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/installed-torch
	$(PYTEST) -m slow

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cornerjax configs train.py eval.py predict.py

torch: $(VENV)/installed-torch  ## PyTorch, for the tests that read its files; make test skips them without it

bench: $(VENV)/installed
	for script in benchmarks/*.py; do $(RUN) $$script || exit 1; done

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@

$(VENV)/installed-torch: $(VENV)/installed-dev
	$(RUN) -m pip install --quiet torch==2.13.0
	touch $@

clean:
	rm -rf $(VENV) .cache
