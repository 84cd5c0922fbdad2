package cgroup

import (
	"errors"
	"math"
	"os"
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
)

func TestStat1(t *testing.T) {
	got, err := fake(t, false, map[string]string{
		"cpuacct.usage":                   "3000000000\n",
		"cpuacct.usage_percpu":            "1000000000 2000000000 \n",
		"cpuacct.stat":                    "user 150\nsystem 50\n",
		"cpu.stat":                        "nr_periods 5\nnr_throttled 2\nthrottled_time 7\n",
		"memory.stat":                     "cache 1\nrss 2\npgpgin 3\nhierarchical_memory_limit 4\nhierarchical_memsw_limit 5\ntotal_inactive_file 6\nnew_in_some_kernel 7\n",
		"memory.usage_in_bytes":           "100\n",
		"memory.limit_in_bytes":           "200\n",
		"memory.max_usage_in_bytes":       "150\n",
		"memory.failcnt":                  "9\n",
		"memory.memsw.usage_in_bytes":     "101\n",
		"memory.kmem.tcp.usage_in_bytes":  "8\n",
		"memory.oom_control":              "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
	}).Stat()
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.Metrics{
		Pids: &v1.PidsStat{},
		CPU: &v1.CPUStat{
			Usage:      &v1.CPUUsage{Total: 3e9, User: 1.5e9, Kernel: .5e9, PerCPU: []uint64{1e9, 2e9}},
			Throttling: &v1.Throttle{Periods: 5, ThrottledPeriods: 2, ThrottledTime: 7},
		},
		Memory: &v1.MemoryStat{
			Cache: 1, RSS: 2, PgPgIn: 3, HierarchicalMemoryLimit: 4, HierarchicalSwapLimit: 5, TotalInactiveFile: 6,
			Usage: &v1.MemoryEntry{Usage: 100, Limit: 200, Max: 150, Failcnt: 9}, Swap: &v1.MemoryEntry{Usage: 101},
			Kernel: &v1.MemoryEntry{}, KernelTCP: &v1.MemoryEntry{Usage: 8},
		},
		MemoryOomControl: &v1.MemoryOomControl{OomKill: 3},
		Blkio: &v1.BlkIOStat{IoServiceBytesRecursive: []*v1.BlkIOEntry{
			{Major: 8, Op: "Read", Value: 10}, {Major: 8, Op: "Write", Value: 20}, {Major: 8, Op: "Total", Value: 30},
		}},
	}
	if !proto.Equal(got.V1, want) || got.V2 != nil {
		t.Errorf("got  %v\nwant %v", got.V1, want)
	}
}

func TestStat2(t *testing.T) {
	got, err := fake(t, true, map[string]string{
		"cpu.stat":            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		"cpu.pressure":        "some avg10=0.12 avg60=1.00 avg300=2.50 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"memory.stat":         "anon 1\nfile 2\nkernel_stack 3\ninactive_file 4\nworkingset_refault_anon 5\n",
		"memory.current":      "100\n",
		"memory.peak":         "150\n",
		"memory.max":          "max\n",
		"memory.swap.current": "11\n",
		"memory.swap.max":     "12\n",
		"memory.events":       "low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\n",
		"io.stat":             "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
	}).Stat()
	if err != nil {
		t.Fatal(err)
	}
	want := &v2.Metrics{
		Pids: &v2.PidsStat{},
		CPU: &v2.CPUStat{
			UsageUsec: 30, UserUsec: 20, SystemUsec: 10, NrPeriods: 5, NrThrottled: 2, ThrottledUsec: 7,
			PSI: &v2.PSIStats{Some: &v2.PSIData{Avg10: .12, Avg60: 1, Avg300: 2.5, Total: 77}, Full: &v2.PSIData{}},
		},
		Memory: &v2.MemoryStat{
			Anon: 1, File: 2, KernelStack: 3, InactiveFile: 4, Usage: 100, MaxUsage: 150, UsageLimit: math.MaxUint64,
			SwapUsage: 11, SwapLimit: 12,
		},
		MemoryEvents: &v2.MemoryEvents{Max: 9, Oom: 3, OomKill: 1, OomGroupKill: 1},
		Io:           &v2.IOStat{Usage: []*v2.IOEntry{{Major: 8, Minor: 16, Rbytes: 1, Wbytes: 2, Rios: 3, Wios: 4}}},
	}
	if !proto.Equal(got.V2, want) || got.V1 != nil {
		t.Errorf("got  %v\nwant %v", got.V2, want)
	}
}

func TestStatOfAGroupThatIsGone(t *testing.T) {
	for _, unified := range []bool{false, true} {
		if m, err := fake(t, unified, nil).Stat(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("unified %t: %v, %v", unified, m, err)
		}
	}
}
