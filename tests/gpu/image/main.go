// Command image writes the image that tests of GPUs run: busybox, a C library, cuda-check,
// and the environment that CUDA's images have, which asks for every GPU of the host.
//
//	go run ./tests/gpu/image -program cuda-check -o image.tar
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"brig/tests/image/oci"
)

// ref is the name that the suite knows it by.
const ref = "brig.test/cuda:1"

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
	program := flags.String("program", "", "cuda-check, a `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || *program == "" || flags.NArg() > 0 {
		return errors.New("usage: image -program FILE -o FILE")
	}
	data, err := os.ReadFile(*program)
	if err != nil {
		return err
	}
	img, err := oci.Recipe{C: true}.Image(ctx)
	if err != nil {
		return err
	}
	img, err = oci.Add(img, "cuda-check", data, "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
	if err != nil {
		return err
	}
	return oci.WriteArchive(*out, ref, img)
}
