package stages_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// traced is a Dockerfile after its volatile edits, with what they bring along,
// as text: ids without their common beginning.
func traced(t *testing.T, source string, opt stages.Options, secretEnv bool, args ...stages.VolatileArg) (string, error) {
	t.Helper()
	opt.Args = maps.Clone(opt.Args)
	for _, arg := range args {
		if opt.Args == nil {
			opt.Args = map[string]string{}
		}
		opt.Args[arg.Name] = arg.Value // as the command does: FROM may use it
	}
	f, err := stages.Parse([]byte(source), opt)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Volatile(args, f.Reachable(allStages(f)...), secretEnv)
	if err != nil {
		return "", err
	}
	g, err := f.Edited(v.Edits)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(g.Source)
	for _, value := range v.Values {
		fmt.Fprintf(&b, "%s: %q\n", value.ID, value.Text)
	}
	for _, unset := range v.Unset {
		fmt.Fprintf(&b, "unset %+v\n", unset)
	}
	for _, name := range v.Undeclared {
		fmt.Fprintf(&b, "undeclared %s\n", name)
	}
	return strings.ReplaceAll(b.String(), stages.ReservedPrefix, "~"), nil
}

func allStages(f *stages.File) (all []int) {
	for i := range f.Stages {
		all = append(all, i)
	}
	return all
}

func given(name, value string) stages.VolatileArg {
	return stages.VolatileArg{Name: name, Value: value, Given: true}
}

func TestVolatile(t *testing.T) {
	for label, c := range map[string]struct {
		source    string
		args      []stages.VolatileArg
		buildArgs map[string]string
		files     bool // the frontend does not know env=
		want      string
	}{
		"an ARG and an ENV of it": {
			source: "FROM a\nARG T\nENV U=$T\nCOPY a b\nRUN x\nCOPY . .\n",
			args:   []stages.VolatileArg{given("T", "secret")},
			want: "FROM a\n#\n#\nCOPY a b\nRUN --mount=type=secret,id=~T,env=T --mount=type=secret,id=~U.bf615aae,env=U x\nCOPY . .\n" +
				"~T: \"secret\"\n~U.bf615aae: \"secret\"\nunset {Line:3 Name:U Arg:T}\n",
		},
		"without a value": {
			source: "FROM a\nARG T\nENV U=$T\nRUN x\n",
			args:   []stages.VolatileArg{{Name: "T"}},
			want: "FROM a\n#\n#\nRUN --mount=type=secret,id=~T,env=T --mount=type=secret,id=~U.bf615aae,env=U x\n" +
				"~U.bf615aae: \"\"\nunset {Line:3 Name:U Arg:T}\n",
		},
		"a frontend without env=": {
			source: "FROM a\nARG T\nRUN x\nSHELL [\"/bin/bash\", \"-c\"]\nRUN <<E\ny\nE\n",
			args:   []stages.VolatileArg{given("T", "it's")},
			files:  true,
			want: "FROM a\n#\nRUN --mount=type=secret,id=~T,target=/dev/~T,mode=0444 test ! -f /dev/~T || . /dev/~T; x\n" +
				"SHELL [\"/bin/bash\", \"-c\"]\nRUN --mount=type=secret,id=~T,target=/dev/~T,mode=0444 <<E\ntest ! -f /dev/~T || . /dev/~T; y\nE\n" +
				"~T: \"export T='it'\\\\''s'\\n\"\n",
		},
		"text around it, other variables": {
			source:    "FROM a\nARG T HOST=h\nARG USER\nENV A=1 U=\"https://$USER:${T}@$HOST/s p\" B='$T'\nRUN x\n",
			args:      []stages.VolatileArg{given("T", "s")},
			buildArgs: map[string]string{"USER": "me"},
			want: "FROM a\nARG HOST=h\nARG USER\nENV A=1 B='$T'\nRUN --mount=type=secret,id=~T,env=T --mount=type=secret,id=~U.ID,env=U x\n" +
				"~T: \"s\"\n~U.ID: \"https://me:s@h/s p\"\nunset {Line:4 Name:U Arg:T}\n",
		},
		"an ENV of an ENV, an ARG of an ARG, in a stage of a stage": {
			source: "FROM a AS b\nARG T\nARG V=v-$T\nENV U=$T\nFROM b\nENV W=w-$U\nRUN x\nFROM a\nRUN y\n",
			args:   []stages.VolatileArg{given("T", "s")},
			want: "FROM a AS b\n#\n#\n#\nFROM b\n#\nRUN --mount=type=secret,id=~T,env=T --mount=type=secret,id=~U.bf615aae,env=U --mount=type=secret,id=~V.ID,env=V --mount=type=secret,id=~W.ID,env=W x\nFROM a\nRUN y\n" +
				"~T: \"s\"\n~U.bf615aae: \"s\"\n~V.ID: \"v-s\"\n~W.ID: \"w-s\"\nunset {Line:4 Name:U Arg:T}\nunset {Line:6 Name:W Arg:T}\n",
		},
		"before the first FROM": {
			source: "ARG T=d\nARG O=o\nFROM a\nARG T\nARG O\nRUN x\n",
			args:   []stages.VolatileArg{given("T", "s")},
			want:   "ARG T=d\nARG O=o\nFROM a\n#\nARG O\nRUN --mount=type=secret,id=~T.ID,env=T x\n~T.ID: \"s\"\n",
		},
		"its default": {
			source: "FROM a\nARG T=d\nENV U=$T\nRUN x\n",
			args:   []stages.VolatileArg{{Name: "T"}},
			want: "FROM a\n#\n#\nRUN --mount=type=secret,id=~T.ID,env=T --mount=type=secret,id=~U.ID,env=U x\n" +
				"~T.ID: \"d\"\n~U.ID: \"d\"\nunset {Line:3 Name:U Arg:T}\n",
		},
		"set anew, so no longer volatile": {
			source: "FROM a\nARG T\nRUN x\nENV T=fixed\nRUN y\nLABEL l=$T\n",
			args:   []stages.VolatileArg{given("T", "s")},
			want:   "FROM a\n#\nRUN --mount=type=secret,id=~T,env=T x\nENV T=fixed\nRUN y\nLABEL l=$T\n~T: \"s\"\n",
		},
		"a value that is given otherwise is not volatile": {
			source:    "FROM a\nARG T\nARG V=v-$T\nRUN x\nLABEL l=$V\n",
			args:      []stages.VolatileArg{given("T", "s")},
			buildArgs: map[string]string{"V": "v"},
			want:      "FROM a\n#\nARG V=v-$T\nRUN --mount=type=secret,id=~T,env=T x\nLABEL l=$V\n~T: \"s\"\n",
		},
		"no such ARG": {
			source: "FROM a\nRUN x\n", args: []stages.VolatileArg{given("T", "s")},
			want: "FROM a\nRUN x\nundeclared T\n",
		},
		"lower case, continuation": {
			source: "from a\nenv a=b\narg t \\\n  # of u\n  u=1\nrun x\n",
			args:   []stages.VolatileArg{given("t", "s")},
			want:   "from a\nenv a=b\narg u=1\n\n\nrun --mount=type=secret,id=~t,env=t x\n~t: \"s\"\n",
		},
		"a command that shows another name": {
			source: "FROM a\nARG T\nENV U=$T\nRUN x\nCMD echo $UX $V\n",
			args:   []stages.VolatileArg{{Name: "T"}},
			want:   "FROM a\n#\n#\nRUN --mount=type=secret,id=~T,env=T --mount=type=secret,id=~U.bf615aae,env=U x\nCMD echo $UX $V\n~U.bf615aae: \"\"\nunset {Line:3 Name:U Arg:T}\n",
		},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := traced(t, c.source, stages.Options{Args: c.buildArgs}, !c.files, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			// Of most ids only their place matters.
			for at := strings.Index(c.want, ".ID"); at >= 0 && at+9 < len(got); at = strings.Index(c.want, ".ID") {
				c.want = strings.Replace(c.want, ".ID", got[at:at+9], 1)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestVolatileErrors(t *testing.T) {
	for label, c := range map[string]struct {
		source string
		files  bool
		line   int
		says   string
	}{
		"FROM":                     {"ARG T\nFROM a:$T\n", false, 2, "FROM uses the volatile ARG T"},
		"a platform":               {"ARG T=linux/amd64\nARG V=$T\nFROM --platform=linux/${V:+amd64} a\n", false, 3, "FROM uses"},
		"a stage's name over ARGs": {"ARG T\nARG V=a$T\nFROM $V\n", false, 3, "FROM uses the volatile ARG T"},
		"COPY":                     {"FROM a\nARG T\nCOPY a /$T\n", false, 3, "COPY uses the volatile ARG T"},
		"COPY of a heredoc":        {"FROM a\nARG T\nCOPY <<E /a\n$T\nE\n", false, 3, "COPY uses"},
		"ADD":                      {"FROM a\nARG T\nENV U=x$T\nADD http://$U/ /\n", false, 4, "ADD uses the volatile ARG T"},
		"WORKDIR":                  {"FROM a\nARG T\nWORKDIR /$T\n", false, 3, "WORKDIR uses"},
		"LABEL":                    {"FROM a\nARG T\nLABEL x=${T:-none}\n", false, 3, "LABEL uses"},
		"USER":                     {"FROM a\nARG T\nUSER $T\n", false, 3, "USER uses"},
		"EXPOSE":                   {"FROM a\nARG T\nEXPOSE $T\n", false, 3, "EXPOSE uses"},
		"VOLUME":                   {"FROM a\nARG T\nVOLUME /$T\n", false, 3, "VOLUME uses"},
		"STOPSIGNAL":               {"FROM a\nARG T\nSTOPSIGNAL $T\n", false, 3, "STOPSIGNAL uses"},
		"a mount":                  {"FROM a\nARG T\nRUN --mount=type=cache,target=/$T x\n", false, 3, "RUN uses"},
		"CMD":                      {"FROM a\nARG T\nENV U=$T\nCMD echo $U\n", false, 3, "CMD in line 4 uses it"},
		"ENTRYPOINT of the base":   {"FROM a AS b\nENTRYPOINT [\"sh\", \"-c\", \"echo ${U}\"]\nFROM b\nARG T\nENV U=$T\n", false, 5, "ENTRYPOINT in line 2 uses it"},
		"a base image's variable":  {"FROM a\nARG T\nENV PATH=$T:$PATH\n", false, 3, "only the base image knows"},
		"one made of such":         {"FROM a\nARG T\nENV P=/x:$PATH\nENV Q=$T:$P\n", false, 4, "only the base image knows"},
		"an ARG of such":           {"FROM a\nARG T=$PATH\n", false, 2, "only the base image knows"},
		"a name of no shell":       {"FROM a\nARG T\nENV a.b=$T\n", false, 3, "no RUN step can be given"},
		"a variable name":          {"FROM a\nARG T\nENV $T=x\n", false, 3, "ENV"},
		"ONBUILD ARG":              {"FROM a AS b\nONBUILD ARG T\nFROM b\nRUN x\n", false, 2, "ONBUILD needs the volatile ARG T"},
		"ONBUILD RUN":              {"FROM a AS b\nARG T\nONBUILD RUN x\nFROM b\n", false, 3, "ONBUILD needs"},
		"ONBUILD RUN of a heredoc": {"FROM a AS b\nARG T\nONBUILD RUN <<E\nx\nE\nFROM b\n", false, 3, "ONBUILD needs"},
		"exec form, old":           {"FROM a\nARG T\nRUN [\"x\"]\n", true, 3, "only to commands of a shell"},
		"script, old":              {"FROM a\nARG T\nRUN <<E\n#!/bin/python\nE\n", true, 3, "only to commands of a shell"},
		"PowerShell, old":          {"FROM a\nARG T\nSHELL [\"powershell\"]\nRUN x\n", true, 4, "to the shell powershell"},
	} {
		t.Run(label, func(t *testing.T) {
			got, err := traced(t, c.source, stages.Options{}, !c.files, given("T", "secret-value"))
			var refused *stages.VolatileError
			if !errors.As(err, &refused) {
				t.Fatalf("error %v\n%s", err, got)
			}
			if refused.Line != c.line || !strings.Contains(refused.Message, c.says) || refused.Remedy == "" || !onOneLine(refused.Message+refused.Remedy) {
				t.Errorf("line %d: %s\n%s", refused.Line, refused.Message, refused.Remedy)
			}
			if strings.Contains(refused.Message+refused.Remedy, "secret-value") {
				t.Errorf("the value is told: %+v", refused)
			}
		})
	}
}

// In a stage that is not built nothing is wrong and nothing is edited.
func TestVolatileOutsideTheBuild(t *testing.T) {
	f := mustParse(t, "FROM a AS b\nARG T\nCOPY a /$T\nFROM c\nARG T\nRUN x\n")
	v, err := f.Volatile([]stages.VolatileArg{{Name: "T"}}, []int{1}, true)
	if err != nil || len(v.Edits) != 2 || v.Edits[0].Line != 5 || v.Edits[1].Line != 6 {
		t.Fatalf("%+v, %v", v, err)
	}
}

// Which edits are made depends on no value, what they make is a Dockerfile of
// the same stages and steps, and no value is in it.
func TestVolatileCorpus(t *testing.T) {
	names := []string{"TOKEN", "token", "INDEX_URL", "NPM_TOKEN", "FEED", "A", "VERSION", "FLAVOUR"}
	args := func(value string) (args []stages.VolatileArg) {
		for _, name := range names {
			args = append(args, stages.VolatileArg{Name: name, Value: value, Given: value != ""})
		}
		return args
	}
	edited := 0
	for path, source := range corpus(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			opt := corpusOptions[strings.TrimSuffix(filepath.Base(path), ".Dockerfile")]
			f, err := stages.Parse(source, opt)
			if err != nil {
				t.Fatal(err)
			}
			for _, secretEnv := range []bool{true, false} {
				first, err := f.Volatile(args("s3cr3t"), allStages(f), secretEnv)
				second, err2 := f.Volatile(args(""), allStages(f), secretEnv)
				if fmt.Sprint(err) != fmt.Sprint(err2) || !slices.EqualFunc(first.Edits, second.Edits, func(a, b stages.Edit) bool { return cmp.Equal(a, b) }) {
					t.Fatalf("the value matters: %v, %v\n%s", err, err2, cmp.Diff(first.Edits, second.Edits))
				}
				if err != nil {
					continue
				}
				g, err := f.Edited(first.Edits)
				if err != nil {
					t.Fatal(err)
				}
				checkOneEdit(t, f, g, stages.Edit{}, opt)
				if strings.Contains(string(g.Source), "s3cr3t") {
					t.Fatalf("the value is in\n%s", g.Source)
				}
				if none, err := f.Volatile(nil, allStages(f), secretEnv); err != nil || len(none.Edits)+len(none.Values) > 0 {
					t.Fatalf("without arguments: %+v, %v", none, err)
				}
				edited += len(first.Edits)
			}
		})
	}
	if edited < 20 {
		t.Errorf("only %d edits were made", edited)
	}
}

func FuzzVolatile(f *testing.F) {
	for _, source := range corpus(f) {
		f.Add(source, "TOKEN", "value")
	}
	f.Fuzz(func(t *testing.T, source []byte, name, value string) {
		file, err := stages.Parse(source, stages.Options{})
		if err != nil || len(source) > 1<<12 || !slices.Contains([]string{"TOKEN", "token", "A"}, name) {
			return
		}
		for _, secretEnv := range []bool{true, false} {
			v, err := file.Volatile([]stages.VolatileArg{given(name, value)}, allStages(file), secretEnv)
			var refused *stages.VolatileError
			if err != nil && !errors.As(err, &refused) {
				t.Fatalf("error of no type: %v", err)
			}
			if g, err := file.Edited(v.Edits); err == nil {
				checkOneEdit(t, file, g, stages.Edit{}, stages.Options{})
			}
		}
	})
}
