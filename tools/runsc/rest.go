package main

import (
	rtdebug "runtime/debug"
	"time"
)

func rest() { time.AfterFunc(5*time.Second, rtdebug.FreeOSMemory) }
