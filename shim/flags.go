package shim

import (
	"flag"
	"io"
)

// flags are those with which every containerd runs a shim.
type flags struct {
	namespace, id string
	address       string // containerd's GRPC socket
	bundle        string // with the verb delete, whose folder may be another
	binary        string // containerd's own program
	debug         bool
	version, info bool
	verb          string
}

func parseFlags(args []string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard) // the error says it
	set.BoolVar(&f.debug, "debug", false, "")
	set.BoolVar(&f.version, "v", false, "")
	set.BoolVar(&f.version, "version", false, "")
	set.BoolVar(&f.info, "info", false, "")
	set.StringVar(&f.namespace, "namespace", "", "")
	set.StringVar(&f.id, "id", "", "")
	set.StringVar(&f.bundle, "bundle", "", "")
	set.StringVar(&f.address, "address", "", "")
	set.StringVar(&f.binary, "publish-binary", "", "")
	if err := set.Parse(args); err != nil {
		return flags{}, err
	}
	f.verb = set.Arg(0)
	return f, nil
}
