# Each target does its own set-up: a virtual environment in .venv with the pinned installs.
PYTHON ?= python3
BIN := .venv/bin
# One thread a process: two training ranks share two cores, and results do not depend on it.
export OMP_NUM_THREADS = 1

.PHONY: demo test test-slow lint bench bench-peers clean

demo: .venv/.ready
	$(BIN)/alloy demo

test: .venv/.ready
	$(BIN)/python -m pytest -m "not slow" --durations 20

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow --durations 20

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

NOT_ALONE := $(addprefix benchmarks/,recompute.py harness.py tokenize.py tokenizing.py order.py loader.py memory.py mmlu_models.py mmlu_parity.py paired.py train_loops.py demo_seeds.py)
bench: .venv/.ready
	@for script in $(filter-out $(NOT_ALONE),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Beside other systems, which get an environment of their own; about twenty minutes on two cores.
bench-peers: .venv/.ready
	PYTHON=$(PYTHON) benchmarks/peers.sh
	@for name in tokenize order loader memory; do $(BIN)/python benchmarks/$$name.py || exit 1; done

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Alloy needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-peers .alloy runs build *.egg-info .pytest_cache .ruff_cache
