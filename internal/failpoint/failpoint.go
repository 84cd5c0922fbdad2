// Package failpoint ends the process, as by kill -9, between two steps of an operation.
//
// Code names the instants at which its death is to be survived:
//
//	failpoint.Hit("create.recorded")
//
// In what is shipped a Hit does nothing and costs nothing. Built with the tag
// failpoints, and with EnvDir in its environment, a process writes every name that it
// hits to the file "hits" in that folder, and dies at the name that the first line of
// the file "armed" holds. It takes the line away first, so that the one that is started
// next dies at the next line: a death within the recovery from a death.
//
// What a process looks for and no test machine has, a driver say, it asks for by
//
//	if !failpoint.Skips("gpu.check") { … }
//
// In what is shipped that is never true. Otherwise it is if the file "skips" there holds a
// line with the name, so that what comes after the look can be died in.
//
// A name is "operation.step", the step being what was done last. It is unique in the
// code, and tests/crash dies at each of them. Safe for concurrent use.
package failpoint

// EnvDir names the environment variable that names the folder.
const EnvDir = "BRIG_FAILPOINTS"
