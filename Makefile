# Daily tasks; `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.NOTPARALLEL:
.SUFFIXES:
.DEFAULT_GOAL := help

export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CONFIG ?= config/epaird.toml
PYTEST_ARGS ?=
BENCH_ARGS ?=
MINUTES ?= 10
SEED ?=
OPERATIONS ?=
MODULE ?=
TARGET ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# command:Debian package that contains it
TEST_COMMANDS := ip:iproute2 ping:iputils-ping iperf3:iperf3 tcpdump:tcpdump ethtool:ethtool \
    prometheus:prometheus promtool:prometheus curl:curl socat:socat gcc:gcc \
    systemd-analyze:systemd man:man-db strace:strace nsenter:util-linux

# Install again when the environment's Python no longer exists, as after an upgrade of the system.
$(shell [ ! -e $(VENV) ] || $(BIN)/python -c '' 2>/dev/null || rm -f $(STAMP)*)

# Shell functions for the recipes below.
define functions
fail() { echo "make $(firstword $(MAKECMDGOALS)): $$*" >&2; exit 1; }
is_root() { [ "$$(id -u)" = 0 ]; }
apt_install() {
    command -v apt-get >/dev/null || fail "this machine has no apt-get; install the contents of these Debian packages: $$*"
    is_root || fail "missing programs; as root: apt-get install $$*"
    echo "apt-get install $$*"
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    # The tests need the programs, not running services.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    apt-get update -qq </dev/null || true
    apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$$@" </dev/null >/dev/null ||
        fail "apt-get could not install $$*"
    case " $$* " in *" prometheus "*) systemctl --quiet disable prometheus 2>/dev/null || true ;; esac
}
find_python() {
    local candidate
    for candidate in $${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$$candidate"
            return
        fi
    done
    [ -z "$${PYTHON:-}" ] || fail "PYTHON=$$PYTHON is not Python 3.11 or newer"
    fail "needs Python 3.11 or newer and found none (python3 is: $$(python3 --version 2>&1 || true));" \
        "on Debian 12 as root: apt-get install python3; or set PYTHON=/path/to/python3"
}
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: root $(STAMP) ## as root: install into .venv and run the daemon with CONFIG (config/epaird.toml)
	@exec $(BIN)/epaird run --config $(CONFIG)

.PHONY: test
test: programs $(STAMP)-test ## run every test (as root: also those with real devices); PYTEST_ARGS="-k ping"
	@code=0
	$(BIN)/python -m pytest $(PYTEST_ARGS) || code=$$?
	[ $$code != 5 ] || echo "make test: no test was collected" >&2
	exit $$code

.PHONY: bench
bench: root $(STAMP) ## as root: measure a pair beside the kernel's veth; BENCH_ARGS="--part impairment --plot bench.svg"
	@exec $(BIN)/epaird bench $(BENCH_ARGS)

.PHONY: soak
soak: root programs $(STAMP)-test ## as root: random accidents under traffic for MINUTES=10; SEED=4711 OPERATIONS=57 repeats a run
	@exec $(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
	    $(if $(OPERATIONS),--operations $(OPERATIONS))

.PHONY: mutate
mutate: root programs $(STAMP)-test ## as root: change MODULE (or each module) a little, and list changes that its tests miss
	@exec $(BIN)/python -m tests.mutation $(MODULE)

.PHONY: fuzz
fuzz: programs $(STAMP)-test ## try random inputs for MINUTES=10; TARGET=toml tries one target, SEED=4711 repeats a run
	@exec $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
	    $(if $(TARGET),--target $(TARGET))

.PHONY: lint
lint: $(STAMP)-lint ## ruff, mypy, and whether generated files are up to date
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python deploy/generate.py --check

.PHONY: format
format: $(STAMP)-lint ## sort imports and format the code
	@$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

.PHONY: generate
generate: $(STAMP) ## write docs/metrics.md and the other files made from the catalogue of counters
	@$(BIN)/python deploy/generate.py

.PHONY: man
man: $(STAMP)-man ## build the manual pages in dist/man
	@$(BIN)/python deploy/man/build.py dist/man

.PHONY: deb
deb: man ## build a Debian package for this machine's Python in dist
	@$(functions)
	command -v dpkg-deb >/dev/null || fail "needs dpkg-deb; build the Debian package on Debian or Ubuntu"
	[ -x /usr/bin/python3 ] || apt_install python3
	if ! deploy/debian/build $(BIN)/python dist/man dist 2>$(VENV)/deb.log; then
	    # python-pytun is compiled where it has no wheel for this machine.
	    header=$$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
	    if command -v gcc >/dev/null && [ -e "$$header" ]; then
	        cat $(VENV)/deb.log >&2
	        fail "could not build the package"
	    fi
	    apt_install gcc libc6-dev python3-dev
	    deploy/debian/build $(BIN)/python dist/man dist
	fi

.PHONY: clean
clean: ## remove .venv, caches and build results
	@rm -rf $(VENV) dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: root
root:
	@$(functions)
	is_root || fail "needs root, for network namespaces and TAP devices: sudo make $(firstword $(MAKECMDGOALS))"

.PHONY: programs
programs:
	@$(functions)
	missing=()
	for program in $(TEST_COMMANDS); do
	    command -v "$${program%%:*}" >/dev/null || missing+=("$${program##*:}")
	done
	if command -v gcc >/dev/null && ! echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1; then
	    missing+=(libc6-dev)
	fi
	if [ $${#missing[@]} != 0 ]; then
	    case " $${missing[*]} " in *" gcc "*) missing+=(libc6-dev) ;; esac
	    mapfile -t missing < <(printf '%s\n' "$${missing[@]}" | sort -u)
	    apt_install "$${missing[@]}"
	fi

# The daemon's own requirements and nothing else.
$(STAMP): pyproject.toml
	@$(functions)
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	    python=$$(find_python)
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "python$$version-venv"
	    echo "making $(VENV) with $$("$$python" --version)"
	    "$$python" -m venv --clear $(VENV)
	fi
	echo "installing epaird into $(VENV)"
	install=($(BIN)/python -m pip install --quiet --editable .)
	if ! "$${install[@]}" >$(VENV)/install.log 2>&1; then
	    # python-pytun is compiled where it has no wheel for this machine.
	    header=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
	    if command -v gcc >/dev/null && [ -e "$$header" ]; then
	        cat $(VENV)/install.log >&2
	        fail "could not install epaird's requirements"
	    fi
	    version=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	    apt_install gcc libc6-dev "python$$version-dev"
	    "$${install[@]}" || fail "could not install epaird's requirements"
	fi
	touch $@

# The dependency groups of pyproject.toml: test, lint and man.
$(STAMP)-%: $(STAMP)
	@echo "installing what make $* needs into $(VENV)"
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group $*
	touch $@
