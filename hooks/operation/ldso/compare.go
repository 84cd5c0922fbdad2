package ldso

// Compare orders names as the linker's binary search does: runs of digits count as numbers,
// and come after anything else. Numbers are of 32 bits and wrap, there as here.
func Compare(a, b string) int {
	i, j := 0, 0
	for i < len(a) {
		switch {
		case digit(a, i) && digit(b, j):
			var x, y int32
			x, i = number(a, i)
			y, j = number(b, j)
			if x != y {
				return int(x - y)
			}
		case digit(a, i):
			return 1
		case digit(b, j):
			return -1
		case at(a, i) != at(b, j):
			return at(a, i) - at(b, j)
		default:
			i++
			j++
		}
	}
	return at(a, i) - at(b, j)
}

func digit(s string, i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }

func number(s string, i int) (n int32, end int) {
	for ; digit(s, i); i++ {
		n = n*10 + int32(s[i]-'0')
	}
	return n, i
}

// at is a byte, or the zero behind the end.
func at(s string, i int) int {
	if i < len(s) {
		return int(s[i])
	}
	return 0
}
