package nvidia

import (
	"fmt"
	"strconv"
	"strings"
)

// Version of NVIDIA's driver, as 580.65.06: two numbers or three. The zero value is none.
type Version struct {
	text  string
	parts [3]int
}

// ParseVersion reads nothing but digits and dots, no number of more than four digits.
func ParseVersion(text string) (Version, error) {
	fields := strings.Split(text, ".")
	if len(fields) != 2 && len(fields) != 3 {
		return Version{}, fmt.Errorf("%.40q is no version of a driver", text)
	}
	v := Version{text: text}
	for i, field := range fields {
		n, err := strconv.ParseUint(field, 10, 16)
		if err != nil || len(field) > 4 {
			return Version{}, fmt.Errorf("%.40q is no version of a driver", text)
		}
		v.parts[i] = int(n)
	}
	return v, nil
}

// String is the version as NVIDIA writes it, with its zeros.
func (v Version) String() string { return v.text }

// Equal compares numbers: gVisor writes 615.15 as 615.15.00.
func (v Version) Equal(w Version) bool { return v.parts == w.parts }

// Branch is the first number.
func (v Version) Branch() int { return v.parts[0] }
