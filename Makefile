# The two commands of the README are `make demo` and `make test`; `make help` lists all.
# Everything is installed into .venv; only `make test` as root installs system packages (peers).

.DELETE_ON_ERROR:
.DEFAULT_GOAL := demo
MAKEFLAGS += --no-print-directory

# The first interpreter that is new enough; overridden by `make PYTHON=...`.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$candidate"; break; }; done)
VENV_PYTHON := .venv/bin/python
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# A process per core; the tests of a module stay together, as they share what it started.
PYTEST := $(VENV_PYTHON) -m pytest --numprocesses auto --dist loadfile
# What an installation is made from: when one of these changes, it is made again.
PACKAGE := pyproject.toml constraints.txt scripts/hatch_build.py \
	$(wildcard src/dcmvault/locale/*/LC_MESSAGES/*.po)
# Extras whose dependencies are pinned with hashes for installations.
SHIPPED_EXTRAS := age cloud oidc pdf postgresql s3-lock sftp watch web
LINTED := src tests bench examples scripts scripts/clean_install scripts/sbom scripts/golden_vaults scripts/peers tools

.PHONY: demo
demo: .venv/demo.stamp  ## the whole story on real studies: back up, verify, damage, detect, repair, report
	@.venv/bin/dcmvault demo

.PHONY: test
test: .venv/dev.stamp  ## all tests but the nightly ones, against real peers (as root it installs them)
	@$(VENV_PYTHON) scripts/peers install
	@$(VENV_PYTHON) scripts/assets
	@$(PYTEST) -m "not nightly" </dev/null

.PHONY: test-local
test-local: .venv/dev.stamp  ## the tests that need no peer
	@$(PYTEST) -m "not nightly and not peers" </dev/null

.PHONY: check
check: lint test  ## everything that must be clean before a commit: lint and test

.PHONY: lint
lint: .venv/dev.stamp  ## format, style, types and the contracts between packages; changes nothing
	@$(VENV_PYTHON) -m ruff format --check $(LINTED)
	@$(VENV_PYTHON) -m ruff check $(LINTED)
	@$(VENV_PYTHON) -m mypy
	@.venv/bin/lint-imports

.PHONY: format
format: .venv/dev.stamp  ## put the code into the project's format and mend what ruff can
	@$(VENV_PYTHON) -m ruff format $(LINTED)
	@$(VENV_PYTHON) -m ruff check --fix $(LINTED)

.PHONY: bench
bench: .venv/dev.stamp  ## measure, each beside a peer where there is one
	@for measurement in $(patsubst bench/%.py,bench.%,$(wildcard bench/*.py)); do \
		echo "== $$measurement"; $(VENV_PYTHON) -m "$$measurement" </dev/null || exit; done

.PHONY: nightly
nightly: .venv/dev.stamp  ## the long campaigns
	@$(VENV_PYTHON) scripts/peers install
	@$(VENV_PYTHON) scripts/assets
	@$(PYTEST) -m nightly --timeout 7200 -rP </dev/null

.PHONY: assets
assets: $(VENV_PYTHON)  ## what the dashboard uses that is not ours, from npm, checked
	@$(VENV_PYTHON) scripts/assets

.PHONY: docs
docs: .venv/dev.stamp  ## the documents as a site, build/docs/docs/index.html; a warning is an error
	@$(VENV_PYTHON) -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/docs

.PHONY: man
man: .venv/dev.stamp  ## a manual page for each command, into man/
	@$(VENV_PYTHON) -m scripts.man_pages

.PHONY: package
package: .venv/dev.stamp assets man  ## wheel and source distribution, with everything in them, into dist/
	@$(VENV_PYTHON) -m hatchling build -d dist

.PHONY: sbom
sbom: .venv/dev.stamp  ## what a wheel brings along, as a bill of materials (CycloneDX), into dist/
	@$(VENV_PYTHON) scripts/sbom dist/dcmvault.cdx.json

.PHONY: clean-install
clean-install: package  ## what was built, installed by pip into a fresh home and tried from end to end
	@$(VENV_PYTHON) scripts/clean_install --wheel dist/dcmvault-*.whl </dev/null

.PHONY: screenshots
screenshots: .venv/dev.stamp assets  ## every page of the dashboard as a picture (DOCUMENTS=1: also those in docs/images)
	@$(VENV_PYTHON) scripts/screenshots $(if $(DOCUMENTS),--documents) </dev/null

.PHONY: pins
pins: python  ## resolve the dependencies anew: constraints.txt, and requirements.txt with hashes
	@rm -rf .cache/pins && "$(PYTHON)" -m venv .cache/pins
	@.cache/pins/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[dev]'
	@{ echo "# Versions that are known to work together; made by 'make pins'."; \
		.cache/pins/bin/python -m pip freeze --exclude dcmvault --exclude-editable; } > constraints.txt
	@.cache/pins/bin/python -m pip --disable-pip-version-check install --quiet uv
	@.cache/pins/bin/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
		$(foreach extra,$(SHIPPED_EXTRAS),--extra $(extra)) --generate-hashes --constraint constraints.txt \
		--no-header --no-annotate --no-emit-index-url --output-file requirements.txt
	@rm -rf .cache/pins

.PHONY: clean
clean:  ## remove everything that the other targets made
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist man screenshots src/dcmvault/web/assets/vendor
	@find src tests bench examples scripts tools -name __pycache__ -prune -exec rm -rf {} +
	@find src -name '*.mo' -delete

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1	\2/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: python
python:
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "dcmvault needs Python 3.11 or later with venv. On Debian and Ubuntu:" >&2; \
		echo "    sudo apt-get install -y make python3-venv" >&2; \
		exit 1; fi

$(VENV_PYTHON): | python
	@"$(PYTHON)" -m venv .venv

.venv/demo.stamp: $(PACKAGE) | $(VENV_PYTHON)
	@echo "Installing dcmvault into .venv (once; about a minute) ..."
	@$(PIP) --editable '.[demo]'
	@touch $@

.venv/dev.stamp: $(PACKAGE) | $(VENV_PYTHON)
	@echo "Installing dcmvault and its development tools into .venv (once; about a minute) ..."
	@$(PIP) --editable '.[dev]'
	@touch .venv/demo.stamp $@
