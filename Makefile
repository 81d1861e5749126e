# Everything works in .venv; `make` alone lists the targets.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One stamp per state of what is installed: a changed lock or pyproject.toml installs again, nothing else does.
KEY := $(shell cat requirements.lock requirements-dev.lock pyproject.toml | cksum | tr ' ' '-')
INSTALLED := .venv/.installed-$(KEY)
INSTALLED_DEV := .venv/.installed-dev-$(KEY)
WORKERS ?= 2
UV ?= uv

.DEFAULT_GOAL := help
.PHONY: bench-console bench-faults help install install-dev run test test-long soak lint format cuda-gate bench-proofs bench-operations bench-coordinator bench-speculation bench-kernels bench-scaling bench-what-if bench-hashes gpu-check docs lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(INSTALLED) ## make .venv from the locked requirements and compile the kernels ahead
	@$(BIN)/python -m workers.build

install-dev: $(INSTALLED_DEV) ## the same with the tools that the tests need
	@$(BIN)/python -m workers.build

run: install ## set up, then replay the example workflow without and with speculation
	@$(BIN)/agenc run

test: install-dev lint ## set up, lint, check types, and run the tests
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -m "not long"

soak: install ## simulate seed after seed with every fault until Ctrl-C, or MINUTES=10; fails on a broken promise
	@$(BIN)/agenc simulate --soak --operations 400 $(if $(MINUTES),--minutes $(MINUTES) --require-coverage)

test-long: install-dev ## the tests that take minutes
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m long --timeout 3600

lint: $(INSTALLED_DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED_DEV) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

cuda-gate: install-dev ## compile every CUDA kernel for three architectures; registers, no spills (needs no GPU)
	@$(PIP) install --quiet "numba-cuda[cu13]>=0.30,<0.31" "cuda-toolkit==13.0.*" "nvidia-cuda-nvcc==13.0.88"
	@$(BIN)/python -m bench.cuda_compile

bench-proofs: install ## permutations proved per second, ours and, where cargo is, Plonky3's in the same run
	@$(BIN)/python -m bench.proofs

bench-operations: install ## operations proved per second by output size, and the time to verify
	@$(BIN)/python -m bench.operations

bench-coordinator: install ## the coordinator without proving (mock prover): throughput, latency, memory, restart
	@$(BIN)/python -m bench.coordinator

bench-speculation: install ## makespans without and with speculation, by graph, confirmation latency and faults; a plot
	@$(BIN)/python -m bench.speculation

gpu-check: install-dev ## on a machine with a GPU: the tests on the card, compute-sanitizer, and every figure of it
	@$(PIP) install --quiet "numba-cuda[cu13]>=0.30,<0.31" "cuda-toolkit==13.0.*" "cupy-cuda13x>=14.2,<15"
	@$(BIN)/python -m bench.gpu_check

bench-hashes: install-dev ## SHA-256 and BLAKE3 in batches, beside hashlib and the package blake3
	@$(BIN)/python -m bench.hashes

bench-faults: install ## what a refused operation, a killed worker and a storm of kills cost (real proofs; six minutes)
	@$(BIN)/python -m bench.faults

bench-console: install ## the processor time that one open console costs the coordinator
	@$(BIN)/python -m bench.console

bench-scaling: install ## 1,000 workers in simulated time, the autoscaler on bursts, real workers one by one
	@$(BIN)/python -m bench.scaling

bench-what-if: install ## agenc what-if against the runs that it predicts
	@$(BIN)/python -m bench.what_if

bench-kernels: install ## hashing, LDE and Merkle trees, with plots
	@for kernel in hash lde merkle; do $(BIN)/agenc bench $$kernel || exit 1; done

docs: install-dev ## make the pages anew that come from the code
	@$(BIN)/agenc config docs > docs/CONFIGURATION.md
	@$(BIN)/python -m coordinator.http.api_docs > docs/API.md
	@$(BIN)/python deploy/monitoring/page.py
	@$(BIN)/python deploy/monitoring/dashboard.py
	@$(BIN)/python deploy/kubernetes/prometheus_rule.py

lock: ## resolve the requirements again (needs uv; make lock UV=path)
	echo 'setuptools>=77' | $(UV) pip compile pyproject.toml - --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command 'make lock' -o requirements.lock
	echo 'setuptools>=77' | $(UV) pip compile pyproject.toml - --group dev -c requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command 'make lock' -o requirements-dev.lock
	$(UV) pip compile pyproject.toml --extra cuda -c requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command 'make lock' -o deploy/docker/requirements-cuda.lock

clean: ## remove .venv and the caches of the tools
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not here; install it or say make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): .venv/bin/python requirements.lock pyproject.toml
	@echo "installing the locked packages into .venv (once; some minutes on a slow line)"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/.installed-[0-9]* && touch $@

$(INSTALLED_DEV): .venv/bin/python requirements.lock requirements-dev.lock pyproject.toml
	@echo "installing the locked packages and the test tools into .venv (once)"
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/.installed-* && touch $@ $(INSTALLED)
