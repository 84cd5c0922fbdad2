package transit

import (
	"fmt"

	"brig/internal/config"
	"brig/internal/netns"
)

// CheckForwarding tells which interface of the host's uplinks, or of the transit
// namespace, does not forward packets any more. It repairs nothing.
func CheckForwarding(cfg *config.Config) error {
	_, uplinks, err := uplink(cfg)
	if err != nil {
		return err
	}
	for _, link := range uplinks {
		if err := forwarding(link.Attrs().Name, "1").check(); err != nil {
			return err
		}
	}
	return netns.Do(Path(cfg), func() error {
		for _, link := range []string{"all", UpLink} {
			if err := forwarding(link, "1").check(); err != nil {
				return fmt.Errorf("in %s: %w", cfg.TransitName(), err)
			}
		}
		return nil
	})
}

func (s setting) check() error {
	now, err := s.read()
	if err != nil {
		return err
	}
	if now != s.value {
		return fmt.Errorf("setting %s is %q, want %q: %w", s.key, now, s.value, errChanged)
	}
	return nil
}
