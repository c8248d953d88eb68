package shellcalls_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
)

// show is a call on one line: [user:] [NAME=value] name args, where … ends a
// word that is not known.
func show(calls []shellcalls.Call) []string {
	word := func(w shellcalls.Word) string {
		if !w.Known {
			return w.Text + "…"
		}
		if w.Text == "" || strings.ContainsAny(w.Text, " \n") {
			return fmt.Sprintf("%q", w.Text)
		}
		return w.Text
	}
	var lines []string
	for _, c := range calls {
		var parts []string
		if c.User != "" {
			parts = append(parts, c.User+":")
		}
		for _, a := range c.Env {
			parts = append(parts, a.Name+"="+word(a.Value))
		}
		parts = append(parts, c.Name)
		for _, a := range c.Args {
			parts = append(parts, word(a))
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return lines
}

func TestScript(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"list", "apt-get update && apt-get install -y curl; pip install x || true", []string{"apt-get update", "apt-get install -y curl", "pip install x", "true"}},
		{"words", `echo 'a b' "c d" e\ f "$HOME/x" pre$X`, []string{`echo "a b" "c d" "e f" … pre…`}},
		{"patterns", `rm -rf /var/lib/apt/lists/* ~/.cache "/var/cache/apt"/*`, []string{"rm -rf /var/lib/apt/lists/* ~/.cache /var/cache/apt/*"}},
		{"assignment in front", "A=1 B=$X npm ci", []string{"A=1 B=… npm ci"}},
		{"export", "export A=1 && npm ci && (export B=2; npm test); npm start", []string{"A=1 npm ci", "A=1 B=2 npm test", "A=1 npm start"}},
		{"plain assignment is not exported", "A=1; npm ci", []string{"npm ci"}},
		{"compound", "if true; then go build; else cargo build; fi; for i in 1 2; do yarn; done; { mvn -B verify; }", []string{"true", "go build", "cargo build", "yarn", "mvn -B verify"}},
		{"function", "f() { npm ci; }; f", []string{"npm ci", "f"}},
		{"pipe and substitution", `curl x | sh; echo "$(go env GOPATH)" ` + "`id -u`", []string{"curl x", "sh", "echo … …", "go env GOPATH", "id -u"}},
		{"path", "/usr/bin/apt-get update", []string{"apt-get update"}},
		{"sudo", "sudo -E apt-get update; sudo -u app A=1 npm ci; sudo --user=app -- npm ci; sudo -u $U npm ci", []string{"root: apt-get update", "app: A=1 npm ci", "app: npm ci", "?: npm ci"}},
		{"env", "env -u X A=1 B=\"$Y\" /usr/bin/env npm ci", []string{"A=1 B=… npm ci"}},
		{"wrappers", "time nice -n 5 timeout -k 5 60 npm ci; nohup -- exec go build; command -v npm; stdbuf -oL yarn", []string{"npm ci", "go build", "command -v npm", "yarn"}},
		{"xargs", "cat list | xargs -n 1 -r apt-get install -y", []string{"cat list", "apt-get install -y"}},
		{"users", "su -s /bin/sh - app -c 'npm ci && npm test'; gosu app:app yarn; su-exec 1000 yarn; runuser -u app -- yarn", []string{"app: npm ci", "app: npm test", "app: yarn", "1000: yarn", "app: yarn"}},
		{"inner scripts", `sh -c 'pip install x && sh -ec "go build"'; bash -o pipefail -lc "npm ci"; eval "yarn" install; bash file.sh`, []string{"pip install x", "go build", "npm ci", "yarn install", "bash file.sh"}},
		{"inner script that is not known", `sh -c "$SCRIPT"`, []string{"sh -c …"}},
		{"inner script of another user", `sudo -u app sh -c "npm ci"`, []string{"app: npm ci"}},
		{"heredoc to a shell", "bash -e <<'EOF'\nnpm ci\nEOF", []string{"npm ci"}},
		{"heredoc to another", "cat > f <<EOF\nnpm ci\nEOF\n", []string{"cat"}},
		{"lines", "set -e\n# apt-get install\nnpm ci \\\n  --omit=dev\n", []string{"set -e", "npm ci --omit=dev"}},
		{"python", "python3 -m pip install x; python3.12 -Im venv v; python setup.py install; python3 -c 'import pip'", []string{"pip install x", "venv v", "python setup.py install", `python3 -c "import pip"`}},
		{"corepack", "corepack pnpm install; corepack enable", []string{"pnpm install", "corepack enable"}},
		{"busybox", "busybox wget x", []string{"wget x"}},
		{"unknown command", "$PIP install x; npm ci", []string{"npm ci"}},
		{"only sh", "function=1; select=2; npm ci", []string{"npm ci"}},
		{"bash", "[[ -f x ]] && npm ci <(echo x) && declare -a a=(1 2)", []string{"npm ci …", "echo x"}},
		{"shebang of a shell", "#!/usr/bin/env -S bash -e\nnpm ci\n", []string{"npm ci"}},
		{"shebang of another", "#!/usr/bin/env python3\nimport pip\n", nil},
		{"nothing", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			calls, err := shellcalls.Script(test.script, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, show(calls)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestScriptForAnotherShell(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string][]string{"/bin/bash": {"npm ci"}, "powershell": nil, "cmd": nil} {
		calls, err := shellcalls.Script("npm ci", []string{shell, "-c"})
		if diff := cmp.Diff(want, show(calls)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", shell, err, diff)
		}
	}
}

func TestScriptErrors(t *testing.T) {
	t.Parallel()
	if _, err := shellcalls.Script("npm ci\nif true", nil); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
	if _, err := shellcalls.Script(strings.Repeat("x", shellcalls.MaxScript+1), nil); !errors.Is(err, shellcalls.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := shellcalls.Exec([]string{strings.Repeat("x", shellcalls.MaxScript+1)}); !errors.Is(err, shellcalls.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want []string }{
		{[]string{"npm", "ci"}, []string{"npm ci"}},
		{[]string{"/bin/bash", "-c", "npm ci && go build"}, []string{"npm ci", "go build"}},
		{[]string{"echo", "$HOME; npm ci"}, []string{`echo "$HOME; npm ci"`}},
		{nil, nil},
		{[]string{""}, nil},
	} {
		calls, err := shellcalls.Exec(test.args)
		if diff := cmp.Diff(test.want, show(calls)); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got)\n%s", test.args, err, diff)
		}
	}
}

// TestDeepNesting would not end with an error but with the process, whose
// stack the parser had filled.
func TestDeepNesting(t *testing.T) {
	t.Parallel()
	for _, opener := range []string{"(", "{ ", "$(", "`", "\"$(", "if ", "! ", "case x in x) ", "$((", "${a:-", "[[ ( ", "[[ ! ", "<(", "sh -c '", "eval ", "a=(", "f()", "while ", "x|", "x&&", "((-", "${a[", "@("} {
		t.Run(opener, func(t *testing.T) {
			t.Parallel() // most of a second each with the race detector
			text := strings.Repeat(opener, shellcalls.MaxScript/len(opener))
			if _, err := shellcalls.Script(text, nil); err != nil && len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func FuzzScript(f *testing.F) {
	for _, seed := range []string{
		"apt-get update && apt-get install -y x", "sudo -u a sh -c 'x \"$Y\" <<E\nb\nE\n'", "env A=b c $(d) `e`", "su - a -c b; eval 'a; b'",
		"#!/bin/sh\nexport A=b; (export C=d; e)", "a <<'E' | b\n$x\nE\nxargs -n 1 c", "python3 -m pip install \\\n x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		calls, err := shellcalls.Script(text, nil)
		if err != nil && calls != nil {
			t.Fatal("calls and an error")
		}
		for _, c := range calls {
			if c.Name == "" || strings.Contains(c.Name, "/") {
				t.Fatalf("name %q", c.Name)
			}
		}
	})
}
