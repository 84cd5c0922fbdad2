package rootlayer

import (
	"strings"
	"testing"
)

func TestRequest(t *testing.T) {
	want := Request{Path: "/state/layer", MaxBytes: 5}
	payload, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(payload); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for payload, fault := range map[string]string{
		``:                                     "EOF",
		`{"path":"/a","max_bytes":1,"mode":7}`: "unknown field",
		`{"path":"a","max_bytes":1}`:           "clean absolute",
		`{"path":"/a/../b","max_bytes":1}`:     "clean absolute",
		`{"path":"/a"}`:                        "max_bytes is missing",
		`{"path":"/a","max_bytes":-1}`:         "max_bytes is missing",
	} {
		if _, err := Decode([]byte(payload)); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v; want %q", payload, err, fault)
		}
	}
}
