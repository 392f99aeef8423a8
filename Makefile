.PHONY: demo test lint bench gpu notebooks clean

demo: .venv/demo-ready
	.venv/bin/simtrain plan llama-3-70b dgx-h100 --gpus 512 --seq 8192 --global-batch 1024 --tokens 15T

test: .venv/test-ready lint
	.venv/bin/pytest

lint: .venv/test-ready
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: .venv/test-ready
	.venv/bin/python -m pip install --quiet --editable '.[bench]'
	.venv/bin/pytest benchmarks --override-ini addopts=-q -s

notebooks: .venv/test-ready
	mkdir -p build/notebooks
	for notebook in notebooks/*.py; do \
		.venv/bin/marimo export html $$notebook -o build/notebooks/$$(basename $$notebook .py).html --force || exit 1; \
	done
# All that waits for an NVIDIA GPU: needs torch only, goes on where it ended, under 9 minutes a call.
gpu:
	python3 validate/gpu

.venv/demo-ready: pyproject.toml
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv/test-ready: pyproject.toml
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@ .venv/demo-ready

clean:
	rm -rf .venv build dist
