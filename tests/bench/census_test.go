package main

import (
	"os"
	"testing"

	"brig/tests/census"
)

// TestMain compares the machine before and after, as every suite does.
func TestMain(m *testing.M) { os.Exit(census.Around(m.Run)) }
