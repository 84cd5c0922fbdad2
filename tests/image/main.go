// Command image writes an OCI image archive for tests, demos and a node without
// a registry: busybox alone, or busybox and Debian's Python 3.
//
//	go run ./tests/image -o python.tar -python -ref localhost/python:3
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"brig/tests/image/oci"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", "", "write the archive to this `file`")
	ref := flags.String("ref", "", "`name` of the image (default brig.test/busybox:1 or brig.test/python:3)")
	busybox := flags.String("busybox", oci.DefaultBusybox, "a static busybox `binary`")
	python := flags.Bool("python", false, "add Python 3 from Debian's packages")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() > 0 {
		return fmt.Errorf("usage: image -o FILE [-python] [-ref NAME] [-busybox FILE]")
	}
	recipe := oci.Recipe{Busybox: *busybox, Python: *python}
	img, err := recipe.Image(ctx)
	if err != nil {
		return err
	}
	if *ref == "" {
		*ref = recipe.Ref()
	}
	return oci.WriteArchive(*out, *ref, img)
}
