package main

import "testing"

// What others wrote stays on its line and in its direction.
func TestClean(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"größe 日本語 🚀":           "größe 日本語 🚀",
		"a\nb\tc\u2028d":        "a b c d",
		"\x1b[31mred\u009b0m":   "[31mred0m",
		"evil\u202egnp.exe\x00": "evilgnp.exe",
		"not utf-8 \xff":        "not utf-8 \uFFFD",
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) = %q, want %q", text, got, want)
		}
	}
}
