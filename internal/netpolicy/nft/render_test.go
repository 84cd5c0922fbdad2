package nft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden: the rule sets as they are read by people. The files are what nft loads and
// lists: TestTextIsWhatIsLoaded shows that netlink says the same.
func TestGolden(t *testing.T) {
	host := Host{Table: "brig", Link: "brig0", Pool: netip.MustParsePrefix("10.88.0.0/16")}
	dual := host
	dual.Pool6 = netip.MustParsePrefix("fd00:1:2:3::/64")
	seats := testSeats(t)
	for name, text := range map[string]string{
		"bare.nft":      transit(Base{}, nil, 0).String(),
		"transit.nft":   transit(testBase, seats, 0).String(),
		"ended.nft":     transit(testBase, seats[5:], 2*time.Hour).String(),
		"arp.nft":       neighbours().String(),
		"host.nft":      host.String(),
		"host-dual.nft": dual.String(),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s:\n%s", name, difference(t, string(want), text))
		}
	}
}
