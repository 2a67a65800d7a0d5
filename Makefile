# From a fresh checkout, with Python >= 3.11 and make:
#   make demo        from sentences to moving characters, written to demo/; does not need torch
#   make test        every check and test that needs no GPU
#   make test-slow   full fuzz counts, overload, soak, the small preset, real clips
#   make check       format, lint, types, imports
#   make gallery     docs/gallery: pictures of what the default bundle does, and their page
#   make designer-prompts   docs/designer_prompts, docs/unseen_prompts: sheets of a hundred prompts each, to be judged by eye
#   make bench       docs/benchmarks.md: ours beside what a user would run otherwise, in two hours; compiles llama.cpp, so it
#                    takes a C++ compiler; BENCH="--shapes 24m" for less
#   make model-card  MODEL_CARD.md; CARD="--checkpoint runs/grpo --evaluations SFT=runs/evaluated/sft" says from what
#   make proto       the generated code of the wire format
#   make clean       remove what all of these made
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt
LLAMA = --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf==0.19.0 safetensors
IN_VENV = . .venv/bin/activate &&

# Or pyright's wrapper asks the network for newer versions of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.PHONY: demo test test-slow check gallery designer-prompts bench model-card proto clean

demo: .venv-demo/installed
	.venv-demo/bin/python -m bridge demo --out demo

# Two files of tests at a time, in the order of tests/conftest.py. More threads than that on two cores would wait for each
# other.
test: check .csharp/done
	$(IN_VENV) OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/installed .csharp/done
	$(IN_VENV) python -m pytest -m "slow and not gpu"

check: .venv/installed
	$(IN_VENV) ruff format --check .
	$(IN_VENV) ruff check .
	$(IN_VENV) pyright
	$(IN_VENV) lint-imports

gallery: .venv/installed
	$(IN_VENV) python docs/pages/gallery.py

designer-prompts: .venv/installed
	$(IN_VENV) python docs/pages/designer_prompts.py
	$(IN_VENV) python docs/pages/designer_prompts.py --out docs/unseen_prompts

bench: .venv/installed
	mkdir -p build/bench
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/engine_speed.py build/bench $(BENCH)
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/rival_stacks.py build/bench $(BENCH)
	$(PYTHON) -m venv build/bench/llama
	build/bench/llama/bin/python -m pip install --quiet --disable-pip-version-check $(LLAMA)
	OMP_NUM_THREADS=1 build/bench/llama/bin/python benchmarks/rival_llama.py build/bench $(BENCH)
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/first_frame.py build/bench $(BENCH)
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/crowd_speed.py build/bench $(BENCH)
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/decoder_speed.py > build/bench/decoder_speed.json
	$(IN_VENV) OMP_NUM_THREADS=1 python benchmarks/serve_cost.py --work build/bench $(BENCH) > build/bench/serve_cost.json
	$(IN_VENV) python -m bridge bench --json build/bench/bridge.json
	$(IN_VENV) python docs/pages/speed.py build/bench

model-card: .venv/installed
	$(IN_VENV) python docs/pages/model_card.py $(CARD)

proto: .venv/installed
	$(IN_VENV) bash proto/generate.sh

clean:
	rm -rf .venv .venv-demo .csharp demo build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Torch goes first and alone: together with the rest, pip may bring another build of it.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv: a few minutes"
	.venv/bin/python $(PIP_INSTALL) torch==2.13.0
	.venv/bin/python $(PIP_INSTALL) --editable ".[dev]"
	touch $@

.venv-demo/installed: pyproject.toml constraints.txt | .venv-demo/bin/python
	@echo "Installing into .venv-demo: less than a minute"
	.venv-demo/bin/python $(PIP_INSTALL) ".[bridge]"
	touch $@

%/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python >= 3.11 is needed: make PYTHON=...')"
	$(PYTHON) -m venv $*

.csharp/done: tests/unity_client/fetch_csharp_tools.sh | .venv/installed
	rm -f $@
	$(IN_VENV) bash $< .csharp
