package main

import (
	"runtime/debug"
	"time"
)

func rest() { time.AfterFunc(5*time.Second, debug.FreeOSMemory) }
