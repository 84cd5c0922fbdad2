package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// exception is a test that cannot pass.
type exception struct {
	test string
	why  string
}

// exceptions are tests that ask for runc itself, or for what gVisor does not do. A
// test is not here because brig lacks something.
var exceptions = []exception{
	{"TestBindLowPortNonRoot", "gVisor's network stack has no privileged ports: nothing in the sentry asks for CAP_NET_BIND_SERVICE, so any user may bind port 80"},
	{"TestIssue9103", "its second half names runc-fp, a wrapper of runc, as the runtime's binary, which is to kill `runc init`"},
	{"TestIssue10589", "it names runc-fp, a wrapper of runc, as the runtime's binary, which is to delay `runc exec`"},
	{"TestKillContainerDeletedByRunc", "it runs `runc delete` by itself, in a root folder that it gave by runc's options"},
}

// ceiling is how many exceptions there may be. Of 53 tests that reach a shim 49 shall
// pass; containerd has added to them since, and none of those is impossible. It goes
// down with the list, never up.
const ceiling = 53 - 49

// reachShim are the tests that make a task with the runtime under test, or ask for
// its features; the slowest first, so that none is waited for at the end.
var reachShim = strings.Fields(`
	TestContainerExecLargeOutputWithTTY TestContainerRestartPolicyAlways TestRegressionIssue6429 TestRegressionIssue4769

	TestRuntimeInfo TestTaskUpdate TestShimInCgroup TestShimDoesNotLeakPipes TestShimDoesNotLeakSockets
	TestDaemonReconnectsToShimIOPipesOnRestart TestContainerAttach TestContainerUser TestContainerAttachProcess
	TestContainerLoadUnexistingProcess TestContainerUserID TestContainerKillAll TestDaemonRestartWithRunningShim
	TestContainerKillInitPidHost TestUserNamespaces TestBindLowPortNonRoot TestBindLowPortNonOpt TestShimOOMScore TestIssue9103
	TestIssue10589 TestIssue13030 TestContainerStart TestContainerStartWithAbsRuntimePath TestContainerOutput TestContainerWait
	TestContainerExec TestContainerLargeExecArgs TestContainerPids TestContainerCloseIO TestDeleteRunningContainer
	TestContainerKill TestKillContainerDeletedByRunc TestContainerNoBinaryExists TestContainerExecNoBinaryExists
	TestWaitStoppedTask TestWaitStoppedProcess TestTaskForceDelete TestProcessForceDelete TestContainerHostname
	TestContainerExitedAtSet TestDeleteContainerExecCreated TestContainerMetrics TestDeletedContainerMetrics TestContainerHook
	TestShimSockLength TestShortRunningTaskPid TestDaemonRestart TestContainerKillInitKillsChildWhenNotHostPid TestTaskResize
	TestContainerNoSTDIN TestTaskSpec TestContainerUsername TestContainerPTY
`)

// needCRIU are tests that are skipped unless there is a program named criu. Only runc
// needs it, so a runtime other than runc's is shown a file of that name.
var needCRIU = strings.Fields(`
	TestCheckpointRestorePTY TestCheckpointLeaveRunning TestCheckpointRestoreWithImagePath TestCheckpointOnPauseStatus
`)

// racy are tests of checkpoints, too, that no verdict can be had of. They kill a restored
// sleep of a few seconds, and to a sandbox the time that its image lay about has passed:
// on a slow machine the sleep has ended, and the kill is an error.
var racy = strings.Fields(`TestCheckpointRestore TestCheckpointRestoreNewContainer`)

// others do not reach the shim: they are about images, content, snapshots, leases and
// containers without a task, or name runc's shim whatever the runtime under test.
// TestMountAtRuntime needs a kernel with XFS and its tools.
var others = strings.Fields(`
	TestNewClient TestImagePull TestImagePullWithDiscardContent TestImagePullAllPlatforms TestImagePullSomePlatforms
	TestImagePullWithConcurrencyLimit TestImagePullWithTracing TestImagePullWithConcurrentUnpacks TestClientReconnect
	TestDefaultRuntimeWithNamespaceLabels TestClientTTRPC_New TestClientTTRPC_Reconnect TestClientTTRPC_Close
	TestNewTaskWithRuntimeOption TestIDMappedOverlay TestContainerRuntimeOptionsv2 TestUIDNoGID TestContainerList
	TestNewContainer TestContainerExtensions TestContainerUpdate TestContainerInfo TestContainerLabels TestContainerImage
	TestContainerNoImage TestContentClient TestConvert TestDaemonRuntimeRoot TestDaemonCustomCgroup TestExportAllCases
	TestPullFetchAllContent TestImageIsUnpacked TestImagePullWithDistSourceLabel TestImageUsage
	TestImageSupportedBySnapshotter_Error TestExportAndImport TestExportAndImportMultiLayer TestImport TestTransferImport
	TestLeaseResources TestMigration TestMountManager TestMountAtRuntime TestRestartMonitor TestSnapshotterClient
	TestTransferEcho
`)

// reaching are the tests to run against a runtime.
func reaching(runtime string) []string {
	if forRunc(runtime) {
		return reachShim
	}
	return slices.Concat(needCRIU, reachShim)
}

func forRunc(runtime string) bool { return strings.HasPrefix(runtime, "io.containerd.runc.") }

func matching(names []string, only *regexp.Regexp) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !only.MatchString(name) })
}

// known fails unless the tables above hold the suite's tests, each once.
func known(suite []string) error {
	table := slices.Sorted(slices.Values(slices.Concat(reachShim, needCRIU, racy, others)))
	suite = slices.Sorted(slices.Values(suite))
	if slices.Equal(table, suite) {
		return nil
	}
	missing := func(from, in []string) (names []string) {
		for _, name := range from {
			if !slices.Contains(in, name) {
				names = append(names, name)
			}
		}
		return names
	}
	return fmt.Errorf("the suite is another than the tables in tests/conformance/table.go say: new %v, gone %v; -all tells what reaches the shim",
		missing(suite, table), missing(table, suite))
}
