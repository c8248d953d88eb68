// Package proxies knows how package managers are led through caching proxies
// while a build step runs, without a trace in what the step leaves behind.
//
// A step that calls a package manager gets a secret mount: a configuration file
// at a place that the package manager reads last, so that whatever else an
// image, a Dockerfile or a project says wins. The mount is part of the step's
// cache key, its contents are not, nor whether there are any. So the mounts are
// made whether a proxy is used or not: which proxies are used, and whether any,
// never makes a step run again.
//
// Files, not variables: BuildKit sets the variable of an absent optional secret
// to the empty string (solver/llbsolver/ops/exec.go, loadSecretEnv, v0.34.2),
// which would shadow an ENV of the base image. And every frontend since
// docker/dockerfile 1.2 knows them, Docker 20.10's own included.
//
// The package does no I/O. No API stability is promised: the product is the
// command.
package proxies
