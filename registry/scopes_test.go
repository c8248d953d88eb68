package registry

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
)

func TestScopesReadBack(t *testing.T) {
	t.Parallel()
	list := Scopes{Branch: "feat/x"}
	for i := range MaxScopes + 1 {
		list = list.Add(fmt.Sprint("job ", i)).Add("job 1")
	}
	if len(list.Names) != MaxScopes || list.Names[MaxScopes-1] == "job 0" {
		t.Fatalf("%d names, first %q", len(list.Names), list.Names[0])
	}
	raw, err := list.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeScopes(raw); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("read back %v, %v", got, err)
	}
}

func TestScopesAreStoredInARegistry(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	c := f.client(t)
	raw, err := Scopes{Branch: "master"}.Add("linux/amd64").Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutBlob(t.Context(), f.Repository, EmptyBlob, "application/vnd.oci.empty.v1+json"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutManifest(t.Context(), f.Repository, "master-scopes", raw, "application/vnd.oci.image.manifest.v1+json"); err != nil {
		t.Fatal(err)
	}
	if got, _, err := c.Manifest(t.Context(), f.Repository, "master-scopes"); err != nil || string(got) != string(raw) {
		t.Errorf("read %s, %v", got, err)
	}
}

func TestDecodeScopesRefuses(t *testing.T) {
	t.Parallel()
	long, _ := Scopes{}.Add("x").Encode()
	document := func(names string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"artifactType":%q,"annotations":{%q:%q}}`, artifactTypeScopes, annotationScopes, names)
	}
	for _, bad := range []string{
		"", "null", "[]", `{"schemaVersion":2}`, string(long) + "x",
		document(""), document("{}"), document(`[""]`), document(`["a","a"]`), document(`["\u001b"]`),
	} {
		if got, err := DecodeScopes([]byte(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
}

func FuzzDecodeScopes(f *testing.F) {
	raw, _ := Scopes{Branch: "b"}.Add("x").Encode()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := DecodeScopes(raw)
		if err != nil {
			return
		}
		again, err := list.Encode()
		if err != nil {
			t.Fatalf("%v was read and cannot be written: %v", list, err)
		}
		if read, err := DecodeScopes(again); err != nil || len(read.Names) != len(list.Names) {
			t.Fatalf("%v became %v, %v", list, read, err)
		}
	})
}
