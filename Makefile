# make run   builds everything and starts the server
# make test  runs all tests
.PHONY: run build web test test-clients test-node-clients test-browser lint clean

PYTHON ?= python3
HAVE_NPM := $(shell command -v npm 2>/dev/null)
CHROMIUM ?= $(shell command -v chromium 2>/dev/null || command -v chromium-browser 2>/dev/null || command -v google-chrome 2>/dev/null)

run: build
	target/release/inglenook serve $(ARGS)

build: web
	cargo build --release

# Without Node the server builds all the same and says that the app is missing.
ifeq ($(HAVE_NPM),)
web:
	@echo "npm not found: building without the browser app"
else
web: web/dist/index.html
endif

WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/vite.config.ts web/package-lock.json

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	cd web && npm run build
	@touch src/http/ui.rs  # the compiler does not see that there are new files to embed

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci

test: web
	cargo test --no-fail-fast
	$(MAKE) test-clients
ifneq ($(HAVE_NPM),)
	$(MAKE) test-node-clients
	cd web && npm run check && npm test
	$(MAKE) test-browser
endif

# Official clients and well-known libraries against the real program.
test-clients: .venv/ready
	cargo build --bins --examples
	.venv/bin/python -m pytest -q tests/clients

test-node-clients: .venv/ready tests/clients/node/node_modules/.package-lock.json
	cargo build --bins --examples
	.venv/bin/python tests/clients/node.py --test-reporter=spec

tests/clients/node/node_modules/.package-lock.json: tests/clients/node/package-lock.json
	cd tests/clients/node && npm ci

.venv/ready: tests/clients/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -r tests/clients/requirements.txt
	touch .venv/ready

ifeq ($(CHROMIUM),)
test-browser:
	@echo "SKIPPED: browser test, because no Chromium was found"
else
test-browser: web .venv/ready
	cargo build --bins --examples
	CHROMIUM=$(CHROMIUM) .venv/bin/python tests/clients/browser.py
endif

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

clean:
	cargo clean
	rm -rf web/dist web/node_modules tests/clients/node/node_modules .venv
