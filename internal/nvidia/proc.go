package nvidia

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// maxFile bounds what is read of any file, in bytes.
const maxFile = 16 << 20

// Driver is the version of the kernel module that is loaded; without one it is an
// ErrNotFound.
func Driver(proc string) (Version, error) {
	text, err := read(filepath.Join(proc, "driver", "nvidia", "version"))
	if errors.Is(err, fs.ErrNotExist) {
		return Version{}, fmt.Errorf("NVIDIA's kernel module is not loaded: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return Version{}, fmt.Errorf("read the driver's version: %w", err)
	}
	return parseDriver(text)
}

func parseDriver(text string) (Version, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	switch {
	// NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …
	case len(f) > 9 && slices.Equal(f[:4], nvrm) && slices.Equal(f[4:8], []string{"Open", "Kernel", "Module", "for"}):
		return ParseVersion(f[9])
	// NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 …
	case len(f) > 7 && slices.Equal(f[:4], nvrm) && f[4] != "Open" && f[5] == "Kernel" && f[6] == "Module":
		return ParseVersion(f[7])
	}
	return Version{}, fmt.Errorf("read the driver's version: it says %.200q", line)
}

var nvrm = []string{"NVRM", "version:", "NVIDIA", "UNIX"}

// Hardware tells whether a device of NVIDIA's is on the PCI bus, whatever it is.
func Hardware(proc string) bool {
	text, err := read(filepath.Join(proc, "bus", "pci", "devices"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && len(f[1]) == 8 && strings.HasPrefix(f[1], "10de") {
			return true
		}
	}
	return false
}

// GPU as the kernel module tells of it.
type GPU struct {
	UUID  string `json:"uuid"`
	Model string `json:"model"`
	// Bus is its PCI address.
	Bus string `json:"bus"`
	// Minor is the N of /dev/nvidiaN.
	Minor int `json:"minor"`
}

// GPUs that the kernel module serves, by minor number.
func GPUs(proc string) ([]GPU, error) {
	dir := filepath.Join(proc, "driver", "nvidia", "gpus")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the driver's GPUs: %w", err)
	}
	var gpus []GPU
	for _, e := range entries {
		text, err := read(filepath.Join(dir, e.Name(), "information"))
		if err != nil {
			return nil, fmt.Errorf("read about GPU %s: %w", e.Name(), err)
		}
		g, excluded, err := parseGPU(text)
		if err != nil {
			return nil, fmt.Errorf("read about GPU %s: %w", e.Name(), err)
		}
		if !excluded {
			gpus = append(gpus, g)
		}
	}
	slices.SortFunc(gpus, func(a, b GPU) int { return a.Minor - b.Minor })
	return gpus, nil
}

func parseGPU(text string) (g GPU, excluded bool, err error) {
	g.Minor = -1
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Model":
			g.Model = value
		case "GPU UUID":
			g.UUID = value
		case "Bus Location":
			g.Bus = value
		case "GPU Excluded":
			excluded = value == "Yes"
		case "Device Minor":
			if g.Minor, err = strconv.Atoi(value); err != nil {
				return GPU{}, false, fmt.Errorf("its minor number is %.40q", value)
			}
		}
	}
	if g.Minor < 0 || g.Model == "" || g.Bus == "" {
		return GPU{}, false, fmt.Errorf("its model, address or minor number is missing")
	}
	return g, excluded, nil
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(data), err
}
