//go:build mock

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// library is, in the program that tests run, eight GPUs that are not there. What
// tests/gpus below the driver's root says, a line each, is different: "none" (no
// driver), "mig N", "lost N", "fail" (NVML does not start), "hang".
func library(driverRoot string) (nvml.Interface, string) {
	text, err := os.ReadFile(filepath.Join(driverRoot, "tests/gpus"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err.Error()
	}
	server := eight()
	for line := range strings.Lines(string(text)) {
		var n int
		line = strings.TrimSpace(line)
		switch {
		case line == "none":
			return nil, "there is no NVIDIA driver: the test says so"
		case line == "hang":
			select {}
		case line == "fail":
			server.InitFunc = func() nvml.Return { return nvml.ERROR_UNKNOWN }
		case scan(line, "mig %d", &n):
			migOn(server, n)
		case scan(line, "lost %d", &n):
			lose(server, n)
		default:
			return nil, fmt.Sprintf("tests/gpus: unknown line %q", line)
		}
	}
	return server, ""
}

func scan(line, form string, n *int) bool {
	_, err := fmt.Sscanf(line, form, n)
	return err == nil
}
