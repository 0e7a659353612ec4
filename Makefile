.DEFAULT_GOAL := help
.PHONY: help run release check test test-unit test-chaos test-broken bench bench-policy bench-peers coverage clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build it and serve on ./data until Ctrl-C; reads .env
	@scripts/run.sh

release: ## the program as it is shipped, optimised by a profile of itself: target/release/manifold
	@scripts/release.sh

check: ## formatting, clippy, licences and sources of dependencies, scripts, house rules
	@scripts/check.sh

test: ## everything: unit tests, stories on SQLite and Postgres, official clients against the binary
	@scripts/test.sh

test-unit: ## only the tests beside the code, in seconds
	@scripts/test.sh unit

test-chaos: ## kill -9 under load (ROUNDS=200 in each shape), servers that go away (OUTAGE=60 seconds), limits (REQUESTS=1000000)
	@scripts/chaos.sh

test-broken: ## break one safeguard after the other in a copy of the source; the tests named for it must notice
	@scripts/broken.sh

bench: ## measure against nginx on this machine; BENCH_QUICK=1 for one short round
	@scripts/bench.sh

bench-policy: ## measure what keys, permissions and limits cost, beside a build without them
	@BENCH_GATEWAY=none scripts/bench.sh tests/bench/policy.py

bench-peers: ## measure LiteLLM, TensorZero and Portkey beside Manifold on this machine; BENCH_QUICK=1 for one short round
	@scripts/bench-peers.sh

coverage: ## lines that the Rust tests reach, as a table and as HTML
	@scripts/coverage.sh

clean: ## remove what was built and installed here; keeps ./data and .env
	cargo clean
	rm -rf .tools tests/blackbox/node_modules
	find tests -name __pycache__ -prune -exec rm -rf {} +
