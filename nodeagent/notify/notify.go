// Package notify tells systemd how the daemon fares, if systemd started it.
package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// Ready says that the daemon serves. Without a NOTIFY_SOCKET it does nothing.
func Ready() error { return send("READY=1") }

// Stopping says that the daemon ends in order.
func Stopping() error { return send("STOPPING=1") }

func send(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	_, err = conn.Write([]byte(state))
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
