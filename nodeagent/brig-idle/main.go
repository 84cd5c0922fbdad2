// Brig-idle is the program of a sandbox that was made without one: as process 1 it
// does nothing until it is told to end, and reaps the orphans of execs. It uses no
// more than it must: it runs in every idle sandbox.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "hostname" {
		os.Exit(name(os.Args[2]))
	}
	os.Exit(idle(listen()))
}

// name is what the shim executes in a sandbox that was booted before it had one.
func name(hostname string) int {
	if err := syscall.Sethostname([]byte(hostname)); err != nil {
		os.Stderr.WriteString("set the hostname: " + err.Error() + "\n")
		return 1
	}
	return 0
}

func listen() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	return signals
}

// idle returns the status to exit with.
func idle(signals <-chan os.Signal) int {
	reap() // what ended before anybody listened
	for s := range signals {
		if s != syscall.SIGCHLD {
			return 128 + int(s.(syscall.Signal))
		}
		reap()
	}
	return 0
}

// reap takes every status there is: signals that arrive together are one.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}
