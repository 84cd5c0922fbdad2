package lint

import (
	"bufio"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// enough is the first version of NVIDIA's toolkit whose update-ldcache mounts no /proc.
var enough = [3]int{1, 20, 1}

var toolkitVersion = regexp.MustCompile(`\.version=v?(\d+)\.(\d+)\.(\d+)`)

// oldToolkit tells whether a hook is of a toolkit before that, by what its linker wrote
// into it, else by Debian's list of packages. What neither tells is not held against it.
func oldToolkit(root, hook string) (version string, old bool) {
	info, err := buildinfo.ReadFile(hook)
	if err == nil && !strings.HasSuffix(info.Main.Path, "/nvidia-container-toolkit") {
		return "", false // brig's own, or somebody else's
	}
	for _, text := range []string{built(info), packaged(root)} {
		var v [3]int
		if n, _ := fmt.Sscanf(text, "%d.%d.%d", &v[0], &v[1], &v[2]); n == 3 {
			return text, less(v, enough)
		}
	}
	return "", false
}

func less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// built is the version in a Go program's own account of itself, if it has one.
func built(info *buildinfo.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if m := toolkitVersion.FindStringSubmatch(s.Value); s.Key == "-ldflags" && m != nil {
			return strings.Join(m[1:], ".")
		}
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// packaged is the version that dpkg has installed.
func packaged(root string) string {
	f, err := os.Open(filepath.Join(root, "var", "lib", "dpkg", "status"))
	if err != nil {
		return ""
	}
	defer f.Close()
	ours := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case key == "Package":
			ours = value == "nvidia-container-toolkit-base"
		case key == "Version" && ours:
			version, _, _ := strings.Cut(value, "-")
			return version
		}
	}
	return ""
}
