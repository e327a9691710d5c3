# make demo: photographs to a trained, evaluated detector.   make test: everything is tested.
# make soak: the same kinds of faults as in the tests, many times over (some ten minutes).
# make test-cpus: the tests that claim equal bits, as on other kinds of processors (some minutes each).
# All work from nothing; `make TORCH=` leaves the choice of torch to pip.

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
READY := .venv/.ready

.PHONY: demo test test-cpus soak lint clean

demo: $(READY)
	launch/demo.sh out/demo

test: $(READY)
	.venv/bin/python -c 'import train.ops.cpu'  # numba's loops: compiled once, not by every worker at once
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-cpus: $(READY)
	.venv/bin/python tests/run_cpus.py

soak: $(READY)
	.venv/bin/python -m pytest -m soak

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
