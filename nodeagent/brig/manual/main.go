// Manual writes brig's manual pages, one for each command, into a folder.
//
//	manual DIR
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra/doc"

	"brig/internal/version"
	"brig/nodeagent/brig/command"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manual DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := command.New(command.Streams{In: os.Stdin, Out: io.Discard, Err: os.Stderr})
	root.DisableAutoGenTag = true
	// The same pages whenever they are made.
	date := time.Unix(0, 0).UTC()
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "brig " + version.Version, Manual: "brig", Date: &date}, dir)
}
