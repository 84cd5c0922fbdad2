package operation

import (
	"slices"
	"strconv"
	"strings"
)

// version of a driver or of CUDA: numbers, the highest first. Never empty but nil.
type version []int

// parseVersion reads numbers with dots between; anything else has no version.
func parseVersion(s string) version {
	var v version
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || len(v) == 4 {
			return nil
		}
		v = append(v, int(n))
	}
	return v
}

// compare treats what is missing at the end as zero.
func (v version) compare(other version) int {
	n := max(len(v), len(other))
	return slices.Compare(v.padded(n), other.padded(n))
}

func (v version) padded(n int) []int { return append(slices.Clone(v), make([]int, n-len(v))...) }
