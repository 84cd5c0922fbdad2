package record

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// Secrets are values by name. Whatever writes them, the store, a log, an error, writes
// their names alone: what is read back has empty values.
type Secrets map[string]string

// Names in order.
func (s Secrets) Names() []string { return slices.Sorted(maps.Keys(s)) }

// MarshalJSON writes the names.
func (s Secrets) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads names.
func (s *Secrets) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	*s = make(Secrets, len(names))
	for _, n := range names {
		(*s)[n] = ""
	}
	return nil
}

// String, GoString, Format and LogValue keep values out of whatever is printed.
func (s Secrets) String() string { return fmt.Sprintf("%q", s.Names()) }

// GoString is String.
func (s Secrets) GoString() string { return s.String() }

// Format is String, whatever the verb.
func (s Secrets) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is String.
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }
