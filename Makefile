# Every target sets itself up first: `make demo` and `make test` need only python3 (3.10 to 3.13),
# make and, for compiled operators, a C++ compiler. `make test PYTHON=python3.12` picks another one.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fast slow test-transformers4 doctor wheel clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PYTEST := $(BIN)/python -m pytest
# Each worker takes up to 3 GB.
WORKERS := -n auto --maxprocesses 4 --dist worksteal
TRANSFORMERS4 := .deps/transformers4
CPP_SOURCES = $(shell find fgclip_det/ops/csrc tests/ops -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

help:
	@echo 'make demo    detect in the bundled pictures; results in outputs/demo'
	@echo 'make test    lint, all tests, and those of encoders and the hub on transformers 4.57'
	@echo 'make fast    the quick tests alone        make lint    the style and type checks alone'
	@echo 'make doctor  what works here, what does not and how to mend it'
	@echo 'make setup   only create .venv            make wheel   build dist/*.whl'
	@echo 'make clean   remove what was built (.venv stays: rm -rf .venv removes it)'

setup:
	@sh .ci/setup.sh deps '$(PYTHON)'
	@sh .ci/setup.sh build '$(PYTHON)'

demo: setup
	$(BIN)/fgclip-det demo --out-dir outputs/demo

test: lint fast slow test-transformers4

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ -x $(BIN)/clang-format ]; then \
	  echo '$(BIN)/clang-format --dry-run --Werror fgclip_det/ops/csrc/...'; \
	  $(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES); \
	else echo 'clang-format: not installed, skipped'; fi
	$(BIN)/python -m mypy

fast: setup
	$(PYTEST) $(WORKERS) -m "not slow"

slow: setup
	$(PYTEST) $(WORKERS) -m slow

# A second transformers laid over .venv: an environment of its own would be another 5 GB.
$(TRANSFORMERS4)/.stamp: constraints-transformers4.txt
	@rm -rf $(TRANSFORMERS4)
	@echo '[setup] transformers 4.57 into $(TRANSFORMERS4)'
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --progress-bar off --no-deps \
	  --target $(TRANSFORMERS4) -r constraints-transformers4.txt
	@touch $@

test-transformers4: setup
	@$(MAKE) --no-print-directory $(TRANSFORMERS4)/.stamp
	@PYTHONPATH=$(CURDIR)/$(TRANSFORMERS4) $(BIN)/python -c "import transformers as t; \
	  print('transformers', t.__version__); assert t.__version__.startswith('4.57.')"
	PYTHONPATH=$(CURDIR)/$(TRANSFORMERS4) $(PYTEST) $(WORKERS) tests/hub tests/encoders tests/vocabulary \
	  tests/models/hub_families tests/models/detectors/test_hub_detector.py tests/apis/test_masks.py \
	  tests/test_cli_photos.py

doctor: setup
	$(BIN)/fgclip-det doctor

wheel: setup
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean:
	rm -rf build dist outputs .deps .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find fgclip_det tests tools demo -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f fgclip_det/_C*.so fgclip_det/ops/_C*.so $(VENV)/.stamp-build
