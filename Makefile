# Each line is a call of start.py, which does the work and runs on Windows too:  py start.py lab
# Pass more on with ARGS:  make lab ARGS=--no-browser     Choose a Python:  make lab PYTHON=python3.12

PYTHON ?= python3

help:
	@$(PYTHON) start.py help

lab test test-oldest notebooks lock clean:
	$(PYTHON) start.py $@ $(ARGS)

doctor progress runs prepare pretrain grid pictures screenshots clinic mutants:
	$(PYTHON) start.py run -m course_utils $@ $(ARGS)

test-browser:
	$(PYTHON) start.py run -m pytest tests/browser $(ARGS)

test-class:
	$(PYTHON) start.py run -m pytest tests/classroom $(ARGS)
	$(PYTHON) start.py test-oldest

slides instructor results:
	$(PYTHON) start.py run -m classroom.$@ $(ARGS)

bench:
	$(PYTHON) start.py run -m benchmarks $(ARGS)

lint:
	$(PYTHON) start.py run -m ruff check .
	$(PYTHON) start.py run -m ruff format --check .

.PHONY: help lab test test-oldest test-browser test-class slides instructor results notebooks lock clean doctor progress runs prepare pretrain grid pictures screenshots clinic mutants bench lint
