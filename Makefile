# Everything a contributor runs. Engines, registry and tools are set up by the
# targets that need them; a fresh Debian machine needs make, Go and root.
.DEFAULT_GOAL := help
BENCH ?=

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: build
build: ## compile the command to bin/
	go build -trimpath -o bin/ ./cmd/docker-build-remote-cache

.PHONY: demo
demo: ## build an example cold, then from its cache on an emptied engine
	@scripts/demo

.PHONY: test
test: ## run all tests, on the engines and the registry of the testbed
	scripts/test

.PHONY: soak
soak: testbed ## rescue and kill at every step and moment, and repeat what chance could spoil; TRIALS=20
	SOAK=1 scripts/test -count=1 -v -run 'Rescue|Kill|ADependencyMore' ./e2e
	go test -count=1 -timeout 3h ./e2e -run 'Rebased|Sibling|Matrix|TwoBuilds|FiveStages|NoSecret' -trials $(or $(TRIALS),20)
	go test -count=1 -timeout 3h ./e2e -run '^$$' -bench PlainBuildx -benchtime $(or $(TRIALS),20)x

.PHONY: check
check: ## run formatters, linters and vulnerability checks
	scripts/check

.PHONY: bench
bench: testbed ## compare with the recipe and buildx; BENCH='-n 5 -write'
	go test -tags bench -count=1 -timeout 6h -v ./bench -args $(BENCH)

.PHONY: release-snapshot
release-snapshot: ## build a release into dist/ without publishing it; needs no network
	PATH="$$(scripts/tools goreleaser):$$PATH" goreleaser release --snapshot --clean --skip=docker

.PHONY: testbed
testbed: ## start the engines and the registry that tests use (docs/testbed.md)
	scripts/testbed up

.PHONY: clean
clean: ## stop the testbed, delete its contents and bin/
	scripts/testbed down --purge
	rm -rf bin
