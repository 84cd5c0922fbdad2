package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Bounds on what runtimes write. Annotations are in both.
const (
	maxState = 4 << 20  // bytes
	maxSpec  = 16 << 20 // bytes
)

// rootOf reads the state of a container and returns where its root is. Some runtimes say
// so in the state; else the bundle's specification does.
func rootOf(state io.Reader) (string, error) {
	var s struct {
		Bundle string `json:"bundle"`
		Root   string `json:"root"`
	}
	if err := decode(state, maxState, &s); err != nil {
		return "", fmt.Errorf("read the state from the standard input: %w", err)
	}
	if s.Root != "" {
		return absolute(s.Bundle, s.Root)
	}
	if !filepath.IsAbs(s.Bundle) {
		return "", fmt.Errorf("bundle %q is not absolute", s.Bundle)
	}
	f, err := os.Open(filepath.Join(s.Bundle, "config.json"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var spec struct {
		Root struct {
			Path string `json:"path"`
		} `json:"root"`
	}
	if err := decode(f, maxSpec, &spec); err != nil {
		return "", fmt.Errorf("read the specification: %w", err)
	}
	if spec.Root.Path == "" {
		return "", errors.New("the specification names no root")
	}
	return absolute(s.Bundle, spec.Root.Path)
}

func absolute(bundle, root string) (string, error) {
	if filepath.IsAbs(root) {
		return root, nil
	}
	if !filepath.IsAbs(bundle) {
		return "", fmt.Errorf("neither the bundle %q nor the root %q is absolute", bundle, root)
	}
	return filepath.Join(bundle, root), nil
}

// decode reads one JSON value of at most limit bytes.
func decode(r io.Reader, limit int64, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("it has more than %d bytes", limit)
	}
	return json.Unmarshal(data, v)
}
