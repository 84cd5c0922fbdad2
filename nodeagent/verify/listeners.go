package verify

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listeners are brigd's own, on TCP in its network namespace, and the files that it
// holds though they were deleted.
func (p *Parts) listeners(context.Context) (lines []Line, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.PID))
	links, err := filepath.Glob(filepath.Join(dir, "fd", "*"))
	if err != nil {
		return nil, err
	}
	sockets := map[string]bool{}
	for _, link := range links {
		target, err := os.Readlink(link)
		if errors.Is(err, fs.ErrNotExist) {
			continue // our own look, or closed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at brigd's open files: %w", err)
		}
		class, inode, _ := strings.Cut(target, ":")
		switch {
		case class == "socket":
			sockets[strings.Trim(inode, "[]")] = true
		case strings.HasSuffix(target, " (deleted)") && strings.HasPrefix(target, p.Config.StateDir+"/"):
			lines = append(lines, Line{Kind: "deleted file", Owner: idPattern.FindString(target), Detail: target})
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		found, err := listening(filepath.Join(dir, "net", table), sockets)
		if err != nil {
			return nil, err
		}
		for _, at := range found {
			lines = append(lines, Line{Kind: "listener", Name: at.String()})
		}
	}
	return lines, nil
}

// listening reads which of the sockets listen, and where.
func listening(table string, sockets map[string]bool) (at []netip.AddrPort, err error) {
	data, err := os.ReadFile(table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("look where brigd listens: %w", err)
	}
	const listen = "0A"
	for line := range strings.Lines(string(data)) {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != listen || !sockets[fields[9]] {
			continue
		}
		a, err := parseAddress(fields[1])
		if err != nil {
			return nil, fmt.Errorf("look where brigd listens: %q: %w", line, err)
		}
		at = append(at, a)
	}
	return at, nil
}

// parseAddress reads an address as the kernel writes it: words of the machine's byte
// order in hexadecimal, then the port.
func parseAddress(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(raw, 4) {
		if len(word) == 4 {
			binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
		}
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !ok {
		return netip.AddrPort{}, fmt.Errorf("no address: %w", err)
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}
