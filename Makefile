# From a fresh clone: `make serve` to see it, `make test` to check it. Plain POSIX make, no GNU extensions, and nothing
# asks a question: it runs the same with CI=true and no terminal. Everything is installed into .venv, in the clone.

# Which Python makes the environment (3.11 or newer): make test PYTHON=python3.13
PYTHON = python3
# More options for `make serve`: make serve ARGS="8080 --keep-alive 5"
ARGS =
# What `make mutants` changes, and the tests that should notice: by default those named after the module.
MODULE = http/conditional
TESTS =
# `make test APT=no` installs no system packages even where it could.
APT = yes

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input
# Files that describe the installation: a change in one of them makes `make` install again.
DESCRIPTION = pyproject.toml setup.py kaserve/_version.py
# Sources of the compiled modules: a change in one of them makes `make` compile again. Python imports a compiled module
# before its source, so until then the change has no effect.
COMPILED = setup.py ext/*.pyx ext/*.h ext/kaserve/*/*.pxd ext/kaserve/*/*/*.pxd \
	kaserve/http/*.py kaserve/telemetry/*.py kaserve/logs/*.py kaserve/net/*.py kaserve/handlers/wsgi/*.py \
	kaserve/threads/*.py kaserve/proxy/*.py kaserve/asgi/*.py
# Where the benchmarks write their results, apart from the charts.
RESULTS = benchmarks/results
# What mypy checks; only directories that exist, since mypy rejects the others.
CODE = $$(ls -d kaserve tests benchmarks examples 2>/dev/null)

# A shell function that creates the environment, unless there is a working one, and installs into it. pip writes to a
# log, which is shown if it failed.
INSTALL = install() { \
		"$(BIN)/python" -c "" 2>/dev/null && "$(BIN)/python" -m pip --version >/dev/null 2>&1 || { \
			echo "make: creating the environment $(VENV) (some seconds, once)"; \
			"$(PYTHON)" -m venv --clear "$(VENV)" || { \
				echo "make: '$(PYTHON) -m venv' failed; on Debian: apt-get install python3-venv" >&2; exit 1; }; }; \
		echo "make: waiting for pip, which installs $$1 and what it needs into $(VENV) (about half a minute, once)"; \
		KASERVE_PURE=1 $(PIP) install -e "$$@" >"$(VENV)/install.log" 2>&1 </dev/null || { \
			cat "$(VENV)/install.log" >&2; exit 1; }; }

# The rest of a recipe that has defined missing(), a function that prints the missing packages.
GET_MISSING = \
	has() { command -v "$$1" >/dev/null 2>&1; }; \
	want=$$(missing); \
	[ -n "$$want" ] || exit 0; \
	as=; \
	[ "$$(id -u)" = 0 ] || as="sudo -n"; \
	if [ "$(APT)" != no ] && has apt-get && $$as true 2>/dev/null; then \
		echo "make: installing" $$want; \
		apt() { $$as env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$$@" </dev/null; }; \
		apt update >/dev/null 2>&1; \
		for package in $$want; do \
			apt install -y --no-install-recommends "$$package" >/dev/null 2>&1 || true; \
		done; \
	fi; \
	want=$$(missing); \
	[ -z "$$want" ] || echo "make: not installed, so what needs them is skipped:" $$want

.PHONY: help serve test build lint format bench bench-servers docs clean tools peers fuzz storm asan atheris mutants

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.compiled ## serve demo/ with kaserve; options: make serve ARGS="8080 --keep-alive 5"
	@$(BIN)/python -m kaserve --directory demo $(ARGS)

test: tools $(VENV)/.installed-dev $(VENV)/.suites $(VENV)/.asgi-suites $(VENV)/.compiled ## everything that must pass: ruff, mypy, all tests on both builds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	KASERVE_PURE=1 $(BIN)/python -m pytest
	KASERVE_PURE= $(BIN)/python -m pytest --compiled

build: $(VENV)/.compiled ## compile the hot modules in place, if their sources changed

lint: $(VENV)/.installed-dev ## ruff and mypy alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)

format: $(VENV)/.installed-dev ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev $(VENV)/.compiled ## measure the parts (3 minutes); options: make bench ARGS="-k heads"
	@mkdir -p $(RESULTS)
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-disable-gc --benchmark-group-by=group \
		--benchmark-columns=median,iqr,ops,rounds --benchmark-json=$(RESULTS)/parts.json $(ARGS)
	$(BIN)/python benchmarks/ratios.py $(RESULTS)/parts.json --json $(RESULTS)/ratios.json

bench-servers: peers $(VENV)/.installed-peers $(VENV)/.compiled ## measure all servers (an hour); options: ARGS="--rounds 3"
	$(BIN)/python benchmarks/servers.py --json $(RESULTS)/servers.json --svg docs/charts $(ARGS)
	$(BIN)/python benchmarks/page_load.py --tls --servers kaserve,kaserve-pure,nginx \
		--json $(RESULTS)/page_load.json --svg docs/charts
	$(BIN)/python benchmarks/ratios.py $$(ls $(RESULTS)/parts.json $(RESULTS)/servers.json 2>/dev/null) \
		--json $(RESULTS)/ratios.json --svg docs/charts

fuzz: $(VENV)/.installed-dev $(VENV)/.compiled ## compare the builds on random input; options: make fuzz ARGS="--seconds 720"
	@KASERVE_PURE= $(BIN)/python -m tests.fuzz.differential $(ARGS)

storm: $(VENV)/.installed-dev $(VENV)/.compiled ## 100,000 hostile visits to a real server; options: make storm ARGS="--seed 7"
	@KASERVE_PURE= $(BIN)/python -m tests.fuzz.storm $(ARGS)

asan: $(VENV)/.installed-dev ## the compiled part under AddressSanitizer (Linux and gcc)
	@sh tests/fuzz/asan.sh $(BIN)/python

# In an environment of its own, since atheris has no wheels for every Python that kaserve runs on.
atheris: $(VENV)/.compiled ## compare the builds guided by coverage, for three minutes; options: make atheris ARGS="--seconds 600"
	@"$(PYTHON)" -m venv build/atheris-venv
	@build/atheris-venv/bin/python -m pip --disable-pip-version-check --no-input -q install "atheris>=3.0"
	@KASERVE_PURE= build/atheris-venv/bin/python -m tests.fuzz.atheris_wire $(ARGS)

# In a copy, since mutmut writes the mutants into the sources. Pure Python, where an edit has an effect without a compiler.
mutants: $(VENV)/.installed-mutmut ## change a module in small ways; which changes do its tests miss? MODULE=http/ranges
	@rm -rf build/mutants
	@mkdir -p build/mutants/mutants  # where mutmut works; Python ignores a path that does not exist when it starts
	@cp -R $$(git ls-files | cut -d/ -f1 | sort -u) build/mutants
	@find build/mutants -name '*.so' -exec rm -f {} +
	@tests="$(TESTS)"; \
	: "$${tests:=tests/$$(dirname $(MODULE))/test_$$(basename $(MODULE)).py}"; \
	[ -e "$$tests" ] || { echo "make: there is no $$tests; say which tests: TESTS=tests/net/connection" >&2; exit 1; }; \
	printf '\n[tool.mutmut]\nsource_paths = ["kaserve/%s.py"]\nalso_copy = [%s]\n%s = ["%s"]\n' "$(MODULE)" \
		"$$(cd build/mutants && printf '"%s", ' *)" pytest_add_cli_args_test_selection "$$tests" \
		>>build/mutants/pyproject.toml
	@echo "make: testing mutants of kaserve/$(MODULE).py; about one a second"
	@cd build/mutants && export KASERVE_PURE=1 PYTHONPATH="$$PWD/mutants" && \
		"$(CURDIR)/$(BIN)/mutmut" run >mutmut.log 2>&1 </dev/null || { tail -n 20 mutmut.log >&2; exit 1; }; \
		survivors=$$("$(CURDIR)/$(BIN)/mutmut" results); \
		[ -n "$$survivors" ] || { echo "make: the tests noticed every change"; exit 0; }; \
		echo "$$survivors"; echo "make: to see one: cd build/mutants && $(CURDIR)/$(BIN)/mutmut show NAME"

# In an environment of its own, so that neither the server nor its tests depend on what builds pages. The variable keeps
# Material from announcing the next major release of MkDocs in every build; the versions are pinned.
docs: build/docs-venv/.installed ## build the documentation as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 KASERVE_PURE=1 build/docs-venv/bin/python -m mkdocs build --quiet --strict
	@echo "make: the site is in build/site/index.html"

build/docs-venv/.installed: docs/requirements.txt
	@echo "make: installing MkDocs into build/docs-venv"
	@"$(PYTHON)" -m venv --clear build/docs-venv
	@build/docs-venv/bin/python -m pip --disable-pip-version-check --no-input -q install -r docs/requirements.txt
	@touch $@

clean: ## remove everything that make, pip and the tools have made
	rm -rf $(VENV) build dist *.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache ext/*.c
	find kaserve tests benchmarks '(' -name __pycache__ -o -name '*.so' ')' -prune -exec rm -rf {} + 2>/dev/null || true

# The installation is editable, so Python sources need no second one: only what describes it does. The stamps remember.
# It is installed as pure Python. The compiled modules are built in place after that, and again when a source changes.
$(VENV)/.installed: $(DESCRIPTION)
	@$(INSTALL); install . "cython>=3.1" "setuptools>=77"
	@touch $@

# The dev environment contains the plain one, so it sets both stamps and a fresh `make test` installs once.
$(VENV)/.installed-dev: $(DESCRIPTION)
	@$(INSTALL); install ".[dev]"
	@touch $(VENV)/.installed $@

# The frameworks' own tests, which only their sdists contain, and the packages that they run with. They are installed
# apart from the environment, since they need other versions. The packages that build the sdists are in [dev].
$(VENV)/.suites: tests/suites/requirements.txt tests/suites/sdists.txt $(VENV)/.installed-dev
	@echo "make: fetching the tests of frameworks"
	@for attempt in 1 2 3; do \
		rm -rf $(VENV)/suites; \
		if { $(PIP) download --retries 10 --no-deps --no-binary :all: --no-build-isolation --dest $(VENV)/suites \
				-r tests/suites/sdists.txt && \
			$(PIP) install --retries 10 --no-build-isolation --target $(VENV)/suites/site \
				-r tests/suites/requirements.txt $(VENV)/suites/*.tar.gz; } >$(VENV)/suites.log 2>&1 </dev/null; \
		then touch $@; exit 0; fi; \
	done; \
	tail -n 5 $(VENV)/suites.log >&2; echo "make: not fetched, so what needs them is skipped" >&2

# Starlette's and FastAPI's: what builds these sdists is installed by pip, in environments that it makes for that.
$(VENV)/.asgi-suites: tests/suites/asgi-requirements.txt tests/suites/asgi-sdists.txt $(VENV)/.suites
	@echo "make: fetching the tests of ASGI frameworks"
	@for attempt in 1 2 3; do \
		rm -rf $(VENV)/suites/asgi-site; \
		if { $(PIP) download --retries 10 --no-deps --no-binary fastapi,starlette --dest $(VENV)/suites \
				-r tests/suites/asgi-sdists.txt && \
			$(PIP) install --retries 10 --target $(VENV)/suites/asgi-site -r tests/suites/asgi-requirements.txt \
				$(VENV)/suites/fastapi-*.tar.gz $(VENV)/suites/starlette-*.tar.gz; \
			} >$(VENV)/asgi-suites.log 2>&1 </dev/null; \
		then touch $@; exit 0; fi; \
	done; \
	tail -n 5 $(VENV)/asgi-suites.log >&2; echo "make: not fetched, so what needs them is skipped" >&2

$(VENV)/.installed-mutmut: $(VENV)/.installed-dev
	@$(PIP) install -q "mutmut>=3.8,<4" </dev/null
	@touch $@

# The Python servers that kaserve is compared with. bjoern has to be compiled; where that fails, the others are installed.
$(VENV)/.installed-peers: benchmarks/requirements.txt $(VENV)/.installed
	@echo "make: installing the peers into $(VENV)"
	@$(PIP) install -r benchmarks/requirements.txt >$(VENV)/peers.log 2>&1 </dev/null || { \
		echo "make: not all of them could be installed (see $(VENV)/peers.log); trying without bjoern"; \
		grep -v '^bjoern' benchmarks/requirements.txt >$(VENV)/peers.txt; \
		$(PIP) install -q -r $(VENV)/peers.txt </dev/null; }
	@touch $@

# Without a compiler this says so, and everything runs as pure Python.
$(VENV)/.compiled: $(COMPILED) $(VENV)/.installed
	@echo "make: waiting for the compiler (a minute or two, and again only when a compiled source has changed)"
	@touch $@.started  # which becomes the stamp, so that a source that is edited during the build counts as newer
	@$(BIN)/python setup.py -q build_ext --inplace say_what_was_built 2>&1 | sed -n '/^kaserve: /p'
	@mv $@.started $@

# System programs that tests and benchmarks drive. If one cannot be installed, this says so in one line and goes on; the
# tests and benchmarks that need it are skipped, and say so themselves.
tools:
	@missing() { \
		has chromium || has chromium-browser || has google-chrome || echo chromium; \
		has wrk || echo wrk; \
		has ab || echo apache2-utils; \
		has curl || echo curl; \
		has wget || echo wget; \
		has aria2c || echo aria2; \
		has zsync && has zsyncmake || echo zsync; \
		has systemd-analyze || echo systemd; \
		nc -h 2>&1 | grep -q '^[[:space:]]*-N' || echo netcat-openbsd; \
		has openssl || echo openssl; \
		has nginx || [ -x /usr/sbin/nginx ] || echo nginx; \
		has haproxy || [ -x /usr/sbin/haproxy ] || echo haproxy; \
	}; \
	$(GET_MISSING)

peers:
	@missing() { \
		has wrk || echo wrk; \
		has nginx || [ -x /usr/sbin/nginx ] || echo nginx; \
		has lighttpd || [ -x /usr/sbin/lighttpd ] || echo lighttpd; \
		has go || echo golang-go; \
		has cc || echo gcc libc6-dev; \
		[ -e /usr/include/ev.h ] || echo libev-dev; \
		has openssl || echo openssl; \
	}; \
	$(GET_MISSING)
