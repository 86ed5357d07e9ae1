# make demo    a new environment with keras_cae in it, then the main job: an autoencoder
#              trained on handwritten digits, its SavedModel and its feature maps
# make test    the same environment, then the whole test suite
# make bench   the same environment with PyTorch, then all benchmarks, for half an hour
# make lint | types | wheel | clean
#
# Settings, as in: make demo DEMO="--epochs 3" PYTHON=/opt/python3.12/bin/python3
VENV = .venv
# Python 3.11-3.13; left empty, the newest that runs here.
PYTHON ?=
# `tensorflow` or `tensorflow-cpu`, the smaller one, which Linux on x86 has. They do not
# live together: name another VENV with another TENSORFLOW.
TENSORFLOW := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),tensorflow-cpu,tensorflow)
# Arguments for `keras-cae train`, for pytest and for the benchmarks.
DEMO =
PYTEST =
BENCH =

TF_CPP_MIN_LOG_LEVEL ?= 2
export TF_CPP_MIN_LOG_LEVEL

python := $(VENV)/bin/python
log := $(VENV)/install.log
demo_ready := $(VENV)/ready-$(TENSORFLOW)
test_ready := $(demo_ready)-test
bench_ready := $(demo_ready)-bench
candidates := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

.PHONY: demo test bench lint types wheel clean

demo: $(demo_ready)
	@KERAS_BACKEND=tensorflow $(python) -m keras_cae train $(DEMO)

test: $(test_ready)
	@$(python) -m pytest $(PYTEST)

bench: $(bench_ready)
	@KERAS_BACKEND=tensorflow $(python) -m benchmarks $(BENCH)

lint: $(test_ready)
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .

types: $(test_ready)
	@$(python) -m mypy

wheel: $(test_ready)
	@$(python) -m build

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(demo_ready): $(python) setup.cfg pyproject.toml
	@extras="$(TENSORFLOW),tfds"; $(install)
	@touch $@

# The tests' environment serves the demo too.
$(test_ready): $(python) setup.cfg pyproject.toml
	@extras="$(TENSORFLOW),tfds,test,dev"; $(install)
	@touch $(demo_ready) $@

$(bench_ready): $(python) setup.cfg pyproject.toml
	@extras="$(TENSORFLOW),bench"; $(install)
	@touch $(demo_ready) $@

# A candidate counts when it runs: pyenv and macOS put names on PATH that do not.
# An environment whose Python is gone is made anew; any other folder is left alone.
$(python):
	@for python in $(candidates); do \
	  if $$python -c $(is_supported) >/dev/null 2>&1; then \
	    echo "Making the environment $(VENV) with $$($$python --version)"; \
	    if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi; \
	    why=$$($$python -m venv $(VENV) 2>&1) && exit 0; \
	    if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi; \
	    echo "The environment $(VENV) could not be made: $$(echo "$$why" | tail -n 1)" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "keras_cae needs Python 3.11, 3.12 or 3.13 with its venv module. Tried without luck: $(candidates). Install one, or name one: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

is_supported := 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

define install
echo "Installing keras_cae[$$extras] into $(VENV): a minute or more (pip's log: $(log))"; \
if ! $(python) -m pip install -e ".[$$extras]" >$(log) 2>&1; then \
  why=$$( (grep ERROR: $(log) || cat $(log)) | tail -n 1); \
  echo "keras_cae could not be installed: $$why (pip's log: $(log))" >&2; \
  exit 1; \
fi
endef
