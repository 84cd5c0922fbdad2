package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"brig/internal/version"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

// nodeInfo is brig node info --json.
type nodeInfo struct {
	Node                string `json:"node"`
	Version             string `json:"version"`
	RunscVersion        string `json:"runsc_version"`
	ContainerdAddress   string `json:"containerd_address"`
	ContainerdNamespace string `json:"containerd_namespace"`
	AddressPool         string `json:"address_pool"`
	Running             uint32 `json:"running"`
	Platform            string `json:"platform"`
	Quota               []used `json:"quota"`
	Waiting             uint32 `json:"waiting"`
	// GPUs in the order of their indices; GPUUnavailable is why none can be asked for.
	GPUs           []view.GPU `json:"gpus"`
	GPUDriver      string     `json:"gpu_driver,omitempty"`
	GPUUnavailable string     `json:"gpu_unavailable,omitempty"`
}

// used is what the caller has of a kind; a limit of zero: any amount.
type used struct {
	Kind  string  `json:"kind"`
	Used  float64 `json:"used"`
	Limit float64 `json:"limit"`
}

func quotaOf(q *brigv1.Quota) []used {
	return []used{
		{"sandboxes", float64(q.GetSandboxes()), float64(q.GetSandboxesLimit())},
		{"execs", float64(q.GetExecs()), float64(q.GetExecsLimit())},
		{"tunnels", float64(q.GetTunnels()), float64(q.GetTunnelsLimit())},
		{"memory_mib", float64(q.GetMemoryMib()), float64(q.GetMemoryMibLimit())},
		{"cpu", q.GetCpu(), q.GetCpuLimit()},
		{"images", float64(q.GetImages()), float64(q.GetImagesLimit())},
		{"gpus", float64(q.GetGpus()), float64(q.GetGpusLimit())},
	}
}

// words of a quota: how much of how much.
func (u used) words() string {
	if u.Limit == 0 {
		return fmt.Sprintf("%v %s", u.Used, u.Kind)
	}
	return fmt.Sprintf("%v of %v %s", u.Used, u.Limit, u.Kind)
}

func (a *app) nodeInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Show the node's versions, paths and counts",
		Args:  positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Node.Info(cmd.Context(), connect.NewRequest(&brigv1.InfoRequest{}))
			if err != nil {
				return err
			}
			m := res.Msg
			if a.json {
				return a.printJSON(nodeInfo{
					m.GetNode(), m.GetVersion(), m.GetRunscVersion(), m.GetContainerdAddress(),
					m.GetContainerdNamespace(), m.GetAddressPool(), m.GetRunning(), m.GetPlatform(), quotaOf(m.GetQuota()), m.GetWaiting(),
					view.OfGPUs(m.GetGpus()), m.GetGpuDriver(), m.GetGpuUnavailable(),
				})
			}
			var yours []string
			for _, u := range quotaOf(m.GetQuota()) {
				yours = append(yours, u.words())
			}
			rows := [][]string{
				{"node", m.GetNode()},
				{"brigd", m.GetVersion()},
				{"runsc", m.GetRunscVersion()},
				{"socket", a.client().Socket},
				{"containerd", m.GetContainerdAddress() + " (namespace " + m.GetContainerdNamespace() + ")"},
				{"address pool", m.GetAddressPool()},
				{"platform", m.GetPlatform()},
				{"running", fmt.Sprint(m.GetRunning())},
				{"waiting", fmt.Sprint(m.GetWaiting())},
				{"yours", strings.Join(yours, ", ")},
			}
			return view.Table(a.Out, append(rows, gpuRows(m)...))
		},
	}
}

// gpuRows are a line for each GPU, and one for what there is to say of all.
func gpuRows(m *brigv1.InfoResponse) (rows [][]string) {
	switch {
	case m.GetGpuUnavailable() != "":
		rows = append(rows, []string{"no GPUs", m.GetGpuUnavailable()})
	default:
		rows = append(rows, []string{"GPU driver", m.GetGpuDriver()})
	}
	for _, g := range view.OfGPUs(m.GetGpus()) {
		rows = append(rows, []string{"GPU", g.Words()})
	}
	return rows
}

func (a *app) nodeCACommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ca",
		Short:   "Print the path of the certificate that signs the tunnels' certificates",
		Example: "  curl --cacert \"$(brig node ca)\" https://...",
		Args:    positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Node.CA(cmd.Context(), connect.NewRequest(&brigv1.CARequest{}))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Path string `json:"path"`
					PEM  string `json:"pem"`
				}{res.Msg.GetPath(), res.Msg.GetPem()})
			}
			_, err = fmt.Fprintln(a.Out, res.Msg.GetPath())
			return err
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of brig and, if it answers, of brigd",
		Args:  positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			var brigd string
			if res, err := a.client().Node.Info(ctx, connect.NewRequest(&brigv1.InfoRequest{})); err == nil {
				brigd = res.Msg.GetVersion()
			}
			if a.json {
				return a.printJSON(struct {
					Brig  string `json:"brig"`
					Brigd string `json:"brigd,omitempty"`
				}{version.Version, brigd})
			}
			rows := [][]string{{"brig", version.Version}}
			if brigd != "" {
				rows = append(rows, []string{"brigd", brigd})
			}
			return view.Table(a.Out, rows)
		},
	}
}
