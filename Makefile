# `make help` says what there is. Everything runs in .venv, which is made from PyPI and made again when pyproject.toml changes.

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=
FORMAL_ARGS ?=
SOAK_ARGS ?=
TIME ?= 600
SWEEP_ARGS ?=
FUZZ_ARGS ?=
MUTATE_ARGS ?=
COVERAGE_ARGS ?=
SYNTH_ARGS ?=
SOC_ARGS ?=
BOARD ?= ulx3s-12f

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test nightly soc formal soak sweep fuzz mutate coverage bitstream synth-report take-in specimen lint bench stale docs-check site env clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 18

demo: $(STAMP) ## generate the demo's machine, simulate it, and let it write
	@$(BIN)/hwgen demo

test: $(STAMP) ## the tests: each bench on the first simulator at all its shapes, and on each other one at one
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not nightly" $(PYTEST_ARGS) sim tests

nightly: $(STAMP) ## all tests, at all shapes on all installed simulators; then each family's machine on RTL (an hour)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[soc,dram]'
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS) sim tests
	@$(BIN)/python -m tools.check_families --jobs $(JOBS)
	@$(BIN)/python -m tools.take_in

soc: $(STAMP) ## an SoC by LiteX, whose CPU gives the machine a prompt and prints its text, in simulation (SOC_ARGS="--model mini --tokens 4")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[soc]'
	@$(BIN)/python -m tools.soc $(SOC_ARGS)

formal: $(STAMP) ## properties of units proved, and refuted of broken units (FORMAL_ARGS="--only skid"), see docs/formal.md
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[formal]'
	@$(BIN)/python -m formal $(FORMAL_ARGS)

soak: $(STAMP) ## thousands of random passes, forks and faults of the host on the RTL, each compared (SOAK_ARGS="--passes N --seed S")
	@$(BIN)/python -m tools.soak $(SOAK_ARGS)

sweep: $(STAMP) ## random decoders on the RTL, each compared with golden, for TIME=8h on all cores (SWEEP_ARGS="--seed S --record", docs/sweep.md)
	@$(BIN)/python -m tools.sweep --time $(TIME) $(SWEEP_ARGS)

fuzz: $(STAMP) ## 20,000 damaged files and answers, each read or refused in one line (FUZZ_ARGS="--inputs N --seed S --only safetensors")
	@$(BIN)/python -m tools.fuzz $(FUZZ_ARGS)

mutate: $(STAMP) ## each unit broken a little, many times: does its bench notice? (hours; MUTATE_ARGS="--unit convert --mutants N --seed S")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[formal]'
	@$(BIN)/python -m tools.mutate $(MUTATE_ARGS)

coverage: $(STAMP) ## which branches of the RTL and which functional points the benches reach (half an hour), into build/coverage/index.html
	@$(BIN)/python -m tools.coverage --jobs $(JOBS) $(COVERAGE_ARGS)

bitstream: $(STAMP) ## a small board's bitstream by Yosys and nextpnr from PyPI, in minutes, into build/fpga (BOARD=B: another)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fpga]'
	@$(BIN)/hwgen fpga build --board $(BOARD)

synth-report: $(STAMP) ## what each unit costs on FPGAs and in transistors (half an hour), into docs/results and the planner (SYNTH_ARGS="--jobs 2")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fpga]'
	@$(BIN)/python -m tools.synth_report $(SYNTH_ARGS)
	@$(BIN)/python -m tools.tables

take-in: $(STAMP) ## other people's tools on an emitted machine: lint, Icarus, Yosys' scripts of a user for five targets (half an hour)
	@$(BIN)/python -m tools.take_in --record
	@$(BIN)/python -m tools.tables

bench: $(STAMP) ## all benchmarks (most of an hour), into docs/results and the documents
	@set -e; for bench in tools/bench_*.py; do \
	  echo "== $$bench"; $(BIN)/python -m tools.$$(basename $$bench .py); done
	@$(BIN)/python -m tools.tables

docs-check: $(STAMP) ## run the commands whose output pages show, and compare (some minutes)
	@$(BIN)/python -m tools.docs_check

site: $(STAMP) ## the documentation as a site, with API pages, into build/site/html (links that do not hold fail)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@$(BIN)/python -m tools.site

stale: $(STAMP) ## results in docs/ that are older than the machine or model that they speak of, with the commands that measure again
	@$(BIN)/python -m tools.stale

specimen: $(STAMP) ## write rtl_out/specimen again, after a change of the RTL
	@$(BIN)/hwgen emit demo --shape tiny --name specimen -o rtl_out/specimen

lint: $(STAMP) ## ruff and mypy on the Python, Verilator's warnings on emitted decoders but for those that are waived
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lint]'
	@$(BIN)/python -m ruff check --quiet --no-cache
	@$(BIN)/python -m mypy --cache-dir build/mypy
	@$(BIN)/python -m tools.lint

env: $(STAMP) ## only the environment

clean: ## remove builds, keep the environment
	rm -rf build

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) is not installed; Python 3.11 or later is needed (make PYTHON=... names another)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python must be 3.11 or later, not $$($(PYTHON) -V | cut -d' ' -f2) (make PYTHON=... names another)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) -m venv does not work; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@for tool in make c++; do command -v $$tool >/dev/null || { \
	  echo "error: $$tool is not installed; on Debian: apt-get install g++ make" >&2; exit 1; }; done
	@echo "installing into $(VENV), some minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
