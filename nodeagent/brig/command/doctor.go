package command

import (
	"fmt"
	"io"

	"brig/internal/config"
	"brig/nodeagent/brig/view"
	"brig/nodeagent/doctor"
	"github.com/spf13/cobra"
)

// Exit statuses of doctor, beside 1 for a run that could not be made.
const (
	statusNotJudged = 3
	statusEscaped   = 4
)

func (a *app) doctorNetCommand() *cobra.Command {
	var path, probe string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "net [flags]",
		Short: "Try to escape from a sandbox's network, and look at the node whether it worked",
		Long: "Make throwaway sandboxes, try from inside them and as raw frames on their links what a hostile\n" +
			"sandbox tries, and look at the node's links and at listeners of the doctor's own whether anything\n" +
			"came through. Each case has a control that must come through. It needs root and the node's\n" +
			"configuration, does not disturb other sandboxes, and removes everything again.\n\n" +
			"The status is 0 if nothing escaped, 4 if something did, 3 if nothing did but some case could not\n" +
			"be judged, and 1 if it could not be tried at all.",
		Args: positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(config.Path(path))
			if err != nil {
				return err
			}
			report, err := doctor.Run(cmd.Context(), doctor.Options{Config: &cfg, Client: a.client(), Probe: probe})
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(report)
			} else {
				err = printReport(a.Out, report, quiet)
			}
			if err != nil {
				return err
			}
			return verdictStatus(report.Verdict())
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration `FILE` (default $BRIG_CONFIG or "+config.DefaultPath+")")
	cmd.Flags().StringVar(&probe, "probe", "", "`FILE` of brig-probe (default: beside the folder of sandboxes.guest)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only cases that are not as they should be, and the totals")
	return cmd
}

// printReport is the table and a line of totals.
func printReport(w io.Writer, r doctor.Report, quiet bool) error {
	rows := [][]string{{"CASE", "RESULT", "WHAT"}}
	for _, c := range r.Results {
		if !quiet || c.Verdict != doctor.OK && c.Verdict != doctor.NotHere {
			rows = append(rows, []string{c.Case, string(c.Verdict), c.Detail})
		}
	}
	if len(rows) > 1 {
		if err := view.Table(w, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

func verdictStatus(v doctor.Verdict) error {
	switch v {
	case doctor.OK:
		return nil
	case doctor.Escaped:
		return exitStatus(statusEscaped)
	default:
		return exitStatus(statusNotJudged)
	}
}
