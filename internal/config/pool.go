package config

import (
	"errors"
	"fmt"
	"time"
)

// Pool says how many sandboxes wait, booted and with a network that lets nothing through,
// for a create to take them.
type Pool struct {
	// Size is how many wait at least; 0: none.
	Size uint32 `toml:"size"`
	// Max is how many wait at most, of whatever kind, when creates come fast; at least Size.
	Max uint32 `toml:"max"`
	// MaxAge of one that waits; then another takes its place. 0: any.
	MaxAge Duration `toml:"max_age"`
}

func (p Pool) validate() error {
	var errs []error
	if p.Max < p.Size {
		errs = append(errs, fmt.Errorf("pool.max %d: want at least pool.size, %d", p.Max, p.Size))
	}
	if p.Max > 1000 {
		errs = append(errs, fmt.Errorf("pool.max %d: want at most 1000", p.Max))
	}
	if age := time.Duration(p.MaxAge); age != 0 && age < time.Minute {
		errs = append(errs, fmt.Errorf("pool.max_age %v: want 0 or at least a minute", age))
	}
	return errors.Join(errs...)
}
