# make demo    from nothing to tags: environment, pipeline on the embedded model, real tritonserver, a table
# make test    lint, types, unit tests and end-to-end tests
# make install only the environment; make install-vllm another one, for target vllm
# make clean   removes what was built; make distclean the environments too
# make tools   promtool, Prometheus and kustomize, for the tests of docker/ that are skipped without them
#
# Settings are passed on to doit: make demo grpc_port=9001 http_port=9000 metrics_port=9002

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check
INSTALLED := .venv/installed
DEBIAN := https://deb.debian.org/debian/pool/main
SETTINGS := $(foreach name,model target source grpc_port http_port metrics_port,$(if $($(name)),$(name)=$($(name))))
# Ends the task when make itself is killed, so that no orphan goes on building or serving.
WITH_MAKE := setpriv --pdeathsig TERM

.PHONY: demo test lint install install-vllm tools clean distclean

demo: $(INSTALLED)
	@$(WITH_MAKE) $(BIN)/doit $(SETTINGS) demo

test: $(INSTALLED) lint
	@$(WITH_MAKE) tests/run.sh $(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)

# The stamp is written last: an installation that was interrupted is repeated.
$(INSTALLED): requirements/pipeline.txt requirements/dev.txt client/pyproject.toml
	@$(PYTHON) build/check_machine.py
	@echo "installing the pinned packages into .venv (2 GB; one to three minutes, most of it downloads)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --no-deps --retries 0 --extra-index-url $(TORCH_INDEX) torch==2.13.0
	@$(PIP) --no-deps --requirement requirements/pipeline.txt --requirement requirements/dev.txt
	@$(PIP) --no-deps --editable client
# Where the CPU index cannot be reached, the build for CUDA came instead, and does not load without its libraries.
	@$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) torch==2.13.0
	@touch $@

# Of the same Python as .venv, whose server takes the stub for it. torch is PyPI's, which is built for CUDA.
install-vllm: $(INSTALLED)
	@$(BIN)/python -m venv .venv-vllm
	@.venv-vllm/bin/pip install -qq --disable-pip-version-check --no-deps --requirement requirements/vllm.txt

# Packages of Debian 13, unpacked into a folder of ours: nothing is installed on the machine. The stamp is written last.
tools: .tools/unpacked

.tools/unpacked: requirements/tools.sha256
	@mkdir -p .tools
	@set -e; while read -r sha256 path; do \
	    curl --fail --silent --show-error --output .tools/package.deb "$(DEBIAN)/$$path" \
	        || { echo "$(DEBIAN)/$$path: if Debian has replaced it, write the newer one's path and hash into $<" >&2; exit 1; }; \
	    echo "$$sha256  .tools/package.deb" | sha256sum --check --quiet; \
	    dpkg-deb --extract .tools/package.deb .tools; \
	done < $<
	@rm .tools/package.deb && touch $@

clean:
	rm -rf checkpoints/*/awq checkpoints/*/trtllm checkpoints/*/evaluation-* checkpoints/*/engine-* checkpoints/*/triton-* checkpoints/*/*.log checkpoints/*/hf/manifest.json .doit.db*

distclean: clean
	rm -rf .venv .venv-vllm .tools
