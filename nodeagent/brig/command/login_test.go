package command_test

import (
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestPullSendsTheLogin(t *testing.T) {
	n := &fakeNode{}
	socket := n.start(t)
	for _, tc := range []struct {
		in   string
		args []string
		want *brigv1.RegistryAuth
	}{
		{"", nil, nil},
		{"hush \n", []string{"--username", "ada", "--password-stdin"}, &brigv1.RegistryAuth{Username: "ada", Password: "hush "}},
		{"token\r\n", []string{"--identity-token-stdin"}, &brigv1.RegistryAuth{IdentityToken: "token"}},
	} {
		n.pulls = nil
		if got := brig(t, socket, tc.in, append([]string{"image", "pull", "img"}, tc.args...)...); got.Status != 0 {
			t.Errorf("%q: %+v", tc.args, got)
		}
		if diff := cmp.Diff([]*brigv1.PullRequest{{Image: "img", Auth: tc.want}}, n.pulls, protocmp.Transform()); diff != "" {
			t.Errorf("%q sends (-want +got):\n%s", tc.args, diff)
		}
	}
}
