// Package secrets is where brigd leaves a sandbox's secrets for the shim that makes it:
// one file a sandbox, readable by root alone, in the run directory, which a reboot clears.
// It is there from shortly before the shim's create until shortly after. So containerd's
// database, brigd's store and every process's arguments are without them. The shim adds
// them to the environment of the sandbox's programs; what is written of that is the spec
// that runsc is shown, in the container's bundle, for root alone and gone with the sandbox.
//
// brigd writes and removes, the shim reads; the functions are safe for concurrent use on
// different ids. What they return as errors has no value in it.
package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Put writes the secrets of the sandbox id below dir.
func Put(dir, id string, values map[string]string) error {
	data, err := json.Marshal(values)
	if err != nil {
		return fmt.Errorf("encode the secrets of %s", id) // the cause might quote them
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of secrets: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, id), data, 0o600); err != nil {
		return errors.Join(fmt.Errorf("write the secrets of %s: %w", id, err), Remove(dir, id))
	}
	return nil
}

// Get reads what Put wrote, as name=value, by name.
func Get(dir, id string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, id))
	if err != nil {
		return nil, fmt.Errorf("read the secrets of %s: %w", id, err)
	}
	var values map[string]string
	if json.Unmarshal(data, &values) != nil {
		return nil, fmt.Errorf("the secrets of %s are not what brigd writes: %w", id, fs.ErrInvalid)
	}
	list := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, name+"="+values[name])
	}
	return list, nil
}

// Remove deletes them. It is no error if they are not there.
func Remove(dir, id string) error {
	if err := os.Remove(filepath.Join(dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the secrets of %s: %w", id, err)
	}
	return nil
}
