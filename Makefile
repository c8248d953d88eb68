.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: testbed
testbed: ## start the engines and the registry that tests use (docs/testbed.md)
	scripts/testbed up

.PHONY: test
test: testbed ## run all tests
	go test -race -shuffle=on -timeout 30m ./...
