# One command each; all of them work on a fresh machine with Python 3.11 to 3.13.
PYTHON ?= python3
CUDA_PYTHON ?= $(shell python3.13 -c "import sys; print(sys.executable)" 2>/dev/null || echo python3)
SEED ?= 0
VENV := .venv
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest --durations=10
WORKERS ?= 2

.PHONY: demo test test-slow test-kernels tpu-aot cuda-aot lint torch bench clean

demo: $(VENV)/installed  ## data set, training, COCO AP, pictures; STEPS=200: a short run that learns little
	$(RUN) train.py --config configs/points_shapes.py --workdir runs/shapes-$(SEED) --seed $(SEED) \
	  --data.root shapes:$(SEED) \
	  $(if $(STEPS),--steps $(STEPS) --optim.warmup-steps $(shell expr $(STEPS) / 10))
	$(RUN) eval.py --workdir runs/shapes-$(SEED)

# Most of the time of the small programs of these tests is LLVM's; the slow tests and test-kernels leave it as it is.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS = 1
# As many threads in all as there are workers (with more, XLA's wait for one another, at a fifth of the time), and large
# arrays of the C library's heap: what is given back to the system has to be zeroed by it before it is used again.
test test-slow test-kernels: export NPROC = 1
test test-slow test-kernels: export MALLOC_MMAP_THRESHOLD_ = 4294967296
test test-slow test-kernels: export MALLOC_TRIM_THRESHOLD_ = 17179869184
test: $(VENV)/installed-dev
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow and not tpu_aot and not cuda_aot"

test-slow: $(VENV)/installed-torch
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m slow

tpu-aot: export JAX_PLATFORMS = cpu
tpu-aot: export ALLOW_MULTIPLE_LIBTPU_LOAD = 1
tpu-aot: export TPU_LIBRARY_PATH = $(CURDIR)/.libtpu/libtpu/libtpu.so
tpu-aot: $(VENV)/installed-dev .libtpu/installed  ## compiles the kernels for TPUs that are not there
	$(PYTEST) -m tpu_aot
	$(RUN) benchmarks/tpu_aot.py

cuda-aot: .cuda-aot/installed  ## compiles the kernels, and a plan, for GPUs that are not there
	JAX_PLATFORMS=cpu .cuda-aot/bin/python -m pytest --durations=10 -m cuda_aot tests/aot/test_cuda*.py

test-kernels: $(VENV)/installed-dev  ## corner pooling alone; PYTHON=python3.13 VENV=.venv-newest: with the newest jax
	$(PYTEST) -n $(WORKERS) --dist load -m "not slow" tests/ops/test_running_max.py tests/ops/test_pallas_*.py tests/nn/test_pooling.py

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cornerjax configs tests train.py eval.py predict.py
	for file in tests/conftest.py tests/*/conftest.py; do $(VENV)/bin/mypy $$file || exit 1; done

torch: $(VENV)/installed-torch  ## PyTorch, for the tests that read its files; make test skips them without it

bench: $(VENV)/installed  ## what takes minutes; benchmarks/pooling_ablation.py takes hours
	for script in corner_pool pipeline sources nms saccade tpu_aot resume hosts; do $(RUN) benchmarks/$$script.py || exit 1; done

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

# Beside the environment, not in it: a jax that finds libtpu takes the machine for one with a TPU.
.libtpu/installed: $(VENV)/installed
	$(RUN) -m pip install --quiet --no-deps --upgrade --target .libtpu "libtpu==0.0.42.*"
	touch $@

# An environment of its own: a jax that finds the CUDA plugin looks for a GPU, and ptxas comes with gigabytes.
.cuda-aot/installed: requirements.txt pyproject.toml
	$(CUDA_PYTHON) -m venv .cuda-aot
	.cuda-aot/bin/python -m pip install --quiet --upgrade pip
	.cuda-aot/bin/python -m pip install --quiet --editable ".[cuda]" "jax>=0.12,<0.13" beartype "pytest>=9,<10"
	touch $@

clean:
	rm -rf $(VENV) .venv-newest .cache .libtpu .cuda-aot
