# `make demo` and `make test` set up everything that they need; the second time they start at once.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEMO_DIR := runs/demo
# The tests of a file stay with one worker: they share fixtures and compiled steps.
PARALLEL := -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: demo test test-slow lint clean

demo: $(READY)
	$(VENV)/bin/python -m transfer_jax.main --config=configs/yosinski2014.py:demo \
		--config.data_dir=$(DEMO_DIR)/data --workdir=$(DEMO_DIR)

test: $(READY)
	$(VENV)/bin/python -m pytest -q $(PARALLEL)

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -q -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO_DIR) build *.egg-info

# Set up again only when the requirements change.
$(READY): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(READY)
