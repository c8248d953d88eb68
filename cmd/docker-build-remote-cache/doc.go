// Command docker-build-remote-cache builds an image as docker build does, with
// every stage of its Dockerfile cached in a registry.
//
// This package is the border of the program: it alone reads arguments and the
// environment, and turns them into data for the others.
package main
