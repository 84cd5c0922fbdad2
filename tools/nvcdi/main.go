// Command brig-nvcdi asks NVIDIA's driver which GPUs there are, and writes on stdout one
// JSON document: the GPUs, and a CDI specification of them (Document).
//
// It is a program of its own because NVML is a C library that is loaded at run time, and
// brigd is static. brigd runs it, with an empty environment, whenever the driver or its
// devices may have changed. It changes nothing.
//
// The same driver and devices give the same bytes: what is made of them is compared when a
// sandbox is restored. A node without a driver is no error: the document says so. What is
// one goes to stderr as one line, and the exit status is 1.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "brig-nvcdi: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	var o Options
	fs := flag.NewFlagSet("brig-nvcdi", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.DriverRoot, "driver-root", "/", "where the driver is installed: / or the root of a driver container")
	fs.StringVar(&o.Hook, "hook", "", "path of the program that CDI's hooks run; it ends in "+hookSuffix)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	if !filepath.IsAbs(o.DriverRoot) {
		return fmt.Errorf("-driver-root %q: want an absolute path", o.DriverRoot)
	}
	if !filepath.IsAbs(o.Hook) || filepath.Base(o.Hook) != filepath.Base(hookSuffix) {
		return fmt.Errorf("-hook %q: want an absolute path that ends in %s", o.Hook, hookSuffix)
	}
	document, err := describe(o)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(document)
}
