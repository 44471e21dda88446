# make lab    a learner's start: installs into .venv and opens JupyterLab
# make test   everything CI checks: lint, doctests, unit tests, every notebook cell, Colab's shape

PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python
INSTALLED := $(VENV)/installed
LAB_FLAGS ?=

# Two busy threads on a busy machine can be ten times slower than one.
export OMP_NUM_THREADS ?= 1

.PHONY: lab test lint unit notebooks-test colab notebooks format bench picture publish unpublish clean

lab: $(INSTALLED)
	$(RUN) -m jupyterlab $(LAB_FLAGS) notebooks/00_start_here.ipynb

test: lint unit notebooks-test colab

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

unit: $(INSTALLED)
	$(RUN) -m pytest --doctest-modules -m "not colab" causal_lab tests tools/publish.py

notebooks-test: $(INSTALLED)
	$(RUN) -m pytest --nbval --nbval-cell-timeout=120 --nbval-sanitize-with=tests/nbval_sanitize.cfg notebooks

colab: $(INSTALLED)
	$(RUN) -m pytest -m colab -n 2 tests/colab

notebooks: $(INSTALLED)
	$(RUN) tools/execute_notebooks.py notebooks/*.ipynb

format: $(INSTALLED)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED)
	$(RUN) benchmarks/slider_latency.py
	$(RUN) benchmarks/causality_cost.py
	$(RUN) benchmarks/decoding.py

picture: $(INSTALLED)
	$(RUN) tools/draw_readme_picture.py

# Needs nothing but Python: a teacher may publish without installing anything.
publish:
	@$(PYTHON) tools/publish.py "$(REPOSITORY)"

unpublish:
	@$(PYTHON) tools/publish.py --remove

clean:
	rm -rf $(VENV) build

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
	$(RUN) -c "open('$(INSTALLED)', 'w').close()"
