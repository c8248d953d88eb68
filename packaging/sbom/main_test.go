package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestBillOfThisTest reads a Go binary that is always there.
func TestBillOfThisTest(t *testing.T) {
	t.Parallel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(t.TempDir(), "bill.json")
	if err := write(binary, document); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var b bill
	if err := json.Unmarshal(content, &b); err != nil {
		t.Fatal(err)
	}
	want := component{Type: "library", Name: "std", Version: strings.TrimPrefix(runtime.Version(), "go")}
	want.PURL = "pkg:golang/std@" + want.Version
	if b.Format != "CycloneDX" || len(b.Components) == 0 || b.Components[0].PURL != want.PURL {
		t.Errorf("the bill is %s", content)
	}
	again := filepath.Join(t.TempDir(), "again.json")
	if err := write(binary, again); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(again); err != nil || string(second) != string(content) {
		t.Errorf("a second bill differs (%v)", err)
	}
}

func TestNoBinary(t *testing.T) {
	t.Parallel()
	if err := write("main.go", filepath.Join(t.TempDir(), "bill.json")); err == nil || !strings.Contains(err.Error(), "read build information") {
		t.Errorf("the error is %v", err)
	}
}
