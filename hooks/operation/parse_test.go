package operation

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want Operation
		err  error
	}{
		{"/usr/bin/nvidia-cdi-hook create-symlinks --link a::/b --link=../c::d//e/../f", symlinks{{"a", "/b"}, {"../c", "/d/f"}}, nil},
		{"nvidia-cdi-hook create-symlinks -link a::/b,c::/d", symlinks{{"a", "/b"}, {"c", "/d"}}, nil},
		{"/x/nvidia-ctk hook create-symlinks --link a::/b", symlinks{{"a", "/b"}}, nil},
		{"nvidia-ctk --debug hook --quiet create-symlinks --link a::/b", symlinks{{"a", "/b"}}, nil},
		{"nvidia-cdi-hook create-symlinks --link ../card0::/dev/dri/by-path/pci-card", symlinks(nil), nil},
		{"nvidia-cdi-hook create-symlinks", symlinks(nil), nil},
		{"nvidia-cdi-hook create-symlinks --container-spec - --link a::/b", symlinks{{"a", "/b"}}, nil},
		{"nvidia-cdi-hook update-ldcache --folder /a --folder=/b/ --ldconfig-path @/sbin/ldconfig", ldcache{[]string{"/a", "/b"}}, nil},
		{"nvidia-cdi-hook update-ldcache", ldcache{}, nil},
		{"nvidia-cdi-hook enable-cuda-compat --host-driver-version=580.65.06", cudaCompat{version{580, 65, 6}, nil, "/usr/local/cuda/compat"}, nil},
		{"nvidia-cdi-hook enable-cuda-compat --host-cuda-version 13.0 --cuda-compat-container-root /opt/compat", cudaCompat{nil, version{13, 0}, "/opt/compat"}, nil},
		{"nvidia-cdi-hook enable-cuda-compat --host-driver-version=new", cudaCompat{nil, nil, "/usr/local/cuda/compat"}, nil},

		{"nvidia-cdi-hook disable-device-node-modification", nil, nil},
		{"nvidia-ctk hook chmod --mode 755 --path /dev/dri", nil, nil},
		{"nvidia-cdi-hook update-application-profile", nil, nil},
		{"nvidia-cdi-hook noop", nil, nil},

		{"nvidia-cdi-hook", nil, ErrUnknown},
		{"nvidia-ctk hook", nil, ErrUnknown},
		{"nvidia-cdi-hook of-tomorrow --flag x", nil, ErrUnknown},
		{"nvidia-cdi-hook --new-flag create-symlinks", nil, ErrUnknown},

		{"", nil, errdefs.ErrInvalidArgument},
		{"nvidia-ctk cdi generate", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook apply-cuda-memory-limits --driver-root / --gpu-id x", nil, errdefs.ErrNotImplemented},
		{"nvidia-cdi-hook create-symlinks --link a:/b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link a::b::c", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link ::/b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link a::", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link a::/..", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --links a::/b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks a::/b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link a::/" + strings.Repeat("b/", 2048), nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --link a\x00::/b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook create-symlinks --container-spec /etc/shadow", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook update-ldcache --folder relative", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook update-ldcache --folder /a#b", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook update-ldcache --folder /a\ninclude", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook enable-cuda-compat --cuda-compat-container-root compat", nil, errdefs.ErrInvalidArgument},
		{"nvidia-cdi-hook noop --link a::/b", nil, errdefs.ErrInvalidArgument},
	} {
		var args []string
		if c.args != "" {
			args = strings.Split(c.args, " ")
		}
		got, err := Parse(args)
		if !errors.Is(err, c.err) || err == nil && !reflect.DeepEqual(got, c.want) || err != nil && got != nil {
			t.Errorf("%.200s\n got %#v, %v\nwant %#v, %v", c.args, got, err, c.want, c.err)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, s := range []string{"", "x", "1.", ".1", "1.-2", "1.2.3.4.5", "99999999999", "1.2-rc"} {
		if v := parseVersion(s); v != nil {
			t.Errorf("%q is read as %v", s, v)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"12", "12.0", 0}, {"12.1", "12", 1}, {"9.9", "10", -1}, {"580.65.06", "580.65.6", 0}, {"99.1.1", "222", -1}} {
		if got := parseVersion(c.a).compare(parseVersion(c.b)); got != c.want {
			t.Errorf("%s against %s is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
