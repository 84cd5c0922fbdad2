package engine

import "strings"

// merge returns base with the variables of more added or replaced.
func merge(base, more []string) []string {
	merged := make([]string, 0, len(base)+len(more))
	at := map[string]int{}
	for _, list := range [][]string{base, more} {
		for _, kv := range list {
			name, _, _ := strings.Cut(kv, "=")
			if i, ok := at[name]; ok {
				merged[i] = kv
				continue
			}
			at[name] = len(merged)
			merged = append(merged, kv)
		}
	}
	return merged
}
