package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

// attestation is one --attest as written; a disabled one takes the place of
// others of its type.
type attestation struct {
	engine.Attestation
	disabled bool
}

// parseAttestation reads type=provenance|sbom[,disabled=BOOL][,KEY=VALUE...].
// Keys other than these keep their case: BuildKit passes them on as variables
// of the generator.
func parseAttestation(s string) (attestation, error) {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return attestation{}, fmt.Errorf("read comma-separated values: %w", err)
	}
	var a attestation
	var rest []string
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return attestation{}, errKeyValue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "type":
			a.Type = value
		case "disabled":
			if a.disabled, err = strconv.ParseBool(value); err != nil {
				return attestation{}, fmt.Errorf("disabled=%q is neither true nor false", value)
			}
		default:
			rest = append(rest, field)
		}
	}
	if err := checkType(a.Type, "provenance", "sbom"); err != nil {
		return attestation{}, err
	}
	a.Attributes, err = joinCSV(rest)
	return a, err
}

func joinCSV(fields []string) (string, error) {
	if len(fields) == 0 {
		return "", nil
	}
	var line bytes.Buffer
	w := csv.NewWriter(&line)
	if err := w.Write(fields); err != nil {
		return "", err
	}
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n"), w.Error()
}

// effective are the attestations to make. Of several of a type the first
// counts, as with buildx, where --attest stands before the shorthands.
func effective(all []attestation) []engine.Attestation {
	var seen []string
	var made []engine.Attestation
	for _, a := range all {
		if slices.Contains(seen, a.Type) {
			continue
		}
		seen = append(seen, a.Type)
		if !a.disabled {
			made = append(made, a.Attestation)
		}
	}
	return made
}

// annotationTarget is a part of an image that can be annotated, with a
// platform in brackets where only one counts: manifest[linux/arm64].
var annotationTarget = regexp.MustCompile(`^(index|manifest|index-descriptor|manifest-descriptor)(?:\[([A-Za-z0-9_/-]+)\])?$`)

// parseAnnotations reads [TYPE[PLATFORM],...:]KEY=VALUE, one annotation for
// each type. A key may not hold a colon, which ends the types.
func parseAnnotations(s string) ([]engine.Annotation, error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return nil, errors.New("the value after = is missing")
	}
	types, name, ok := strings.Cut(key, ":")
	if !ok {
		types, name = "manifest", key
	}
	if name == "" {
		return nil, errNoName
	}
	var all []engine.Annotation
	for _, target := range strings.Split(types, ",") {
		match := annotationTarget.FindStringSubmatch(target)
		if match == nil {
			return nil, fmt.Errorf("type %q is not manifest, index, manifest-descriptor or index-descriptor", target)
		}
		a := engine.Annotation{Part: match[1], Key: name, Value: value}
		if match[2] != "" {
			p, err := platforms.Parse(match[2])
			if err != nil {
				return nil, err
			}
			a.Platform = platforms.FormatAll(p)
		}
		all = append(all, a)
	}
	return all, nil
}
