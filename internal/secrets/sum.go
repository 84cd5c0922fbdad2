package secrets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// keyFile is no sandbox's id.
const keyFile = "key"

// keySize is HMAC-SHA-256's own.
const keySize = sha256.Size

// Sum tells two sets of secrets apart and nothing else of them: it is keyed by what lies in
// dir until the machine's restart, so whoever reads it in a store cannot try what it could
// be of. Sums of two boots do not compare. None has the empty sum.
func Sum(dir string, values map[string]string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	key, err := openKey(dir)
	if err != nil {
		return "", fmt.Errorf("key of sums of secrets: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(mac, "%d %d %s%s", len(name), len(values[name]), name, values[name])
	}
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// openKey makes the key that is not there. Of two who do at once, one is first.
func openKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, keyFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) == keySize {
		return key, nil
	}
	if err == nil {
		return nil, fmt.Errorf("%s has %d bytes, want %d: remove it: %w", path, len(key), keySize, fs.ErrInvalid)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key = make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	fresh := path + "." + rand.Text()
	if err := os.WriteFile(fresh, key, 0o600); err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	err = errors.Join(os.Link(fresh, path), os.Remove(fresh))
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	}
	return key, err
}
