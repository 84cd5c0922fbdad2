package operation

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// flags of one hook by name, each with its values in order.
type flags map[string][]string

// last is a flag's value, or otherwise where it is not given.
func (f flags) last(name, otherwise string) string {
	if v := f[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return otherwise
}

// parseFlags takes the flags that known names. One or two dashes are the same.
func parseFlags(args []string, known map[string]bool) (flags, error) {
	f := flags{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, whole := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		repeated, is := known[name]
		switch {
		case !strings.HasPrefix(arg, "-") || !is:
			return nil, fmt.Errorf("argument %.64q: %w", arg, errdefs.ErrInvalidArgument)
		case !whole && len(args) == 0:
			return nil, fmt.Errorf("flag %s has no value: %w", arg, errdefs.ErrInvalidArgument)
		case !whole:
			value, args = args[0], args[1:]
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("flag %s: a zero byte in its value: %w", name, errdefs.ErrInvalidArgument)
		}
		if repeated {
			f[name] = append(f[name], strings.Split(value, ",")...)
			continue
		}
		f[name] = append(f[name], value)
	}
	// NVIDIA's tests name a file here that takes the place of the standard input.
	if s := f.last("container-spec", "-"); s != "" && s != "-" {
		return nil, fmt.Errorf("flag container-spec: the state is read from the standard input alone: %w", errdefs.ErrInvalidArgument)
	}
	return f, nil
}
