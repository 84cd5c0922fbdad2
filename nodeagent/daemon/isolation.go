package daemon

import (
	"context"
	"errors"
	"time"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/clock"
	"brig/nodeagent/doctor"
)

// isolationMetrics is what the isolation check tells its figures to.
type isolationMetrics interface {
	// IsolationEnabled: brigd checks by itself.
	IsolationEnabled()
	// IsolationChecked: a check came to a result on every case that the node can have.
	IsolationChecked(at time.Time, took time.Duration, attempts, escapes int)
	// IsolationFailed: a check came to no result, or not on every case.
	IsolationFailed()
}

// keepIsolation tries every now and then to escape from a sandbox of its own, and
// raises the alarm if it can. One check at a time, each bounded in itself; the first
// one an interval after the start, so that a brigd that is restarted again and again
// does nothing else. An interval of zero means never.
func (d *daemon) keepIsolation(ctx context.Context, metrics isolationMetrics) {
	every := time.Duration(d.Config.Doctor.Every)
	if every == 0 {
		return
	}
	metrics.IsolationEnabled()
	for {
		if clock.Pause(ctx, every); ctx.Err() != nil {
			return
		}
		d.checkIsolation(ctx, metrics)
	}
}

// checkIsolation calls brigd as any client does, so that what is checked is what users
// get.
func (d *daemon) checkIsolation(ctx context.Context, metrics isolationMetrics) {
	log := d.Log.With("component", "doctor")
	report, err := doctor.Run(ctx, doctor.Options{Config: d.Config, Client: client.New(d.Config.Socket)})
	switch {
	case ctx.Err() != nil:
		return // brigd ends; the next one removes what this check made
	case err != nil:
		metrics.IsolationFailed()
		log.Error("try the node's isolation", "err", errors.New(client.Describe(err)))
		return
	}
	for _, r := range report.Results {
		switch r.Verdict {
		case doctor.Escaped:
			log.Error("isolation is broken", "case", r.Case, "detail", r.Detail)
		case doctor.NotJudged:
			log.Warn("isolation could not be judged", "case", r.Case, "detail", r.Detail)
		}
	}
	if report.Verdict() == doctor.NotJudged {
		metrics.IsolationFailed()
		return
	}
	metrics.IsolationChecked(time.Now(), report.Took, len(report.Results), report.Count(doctor.Escaped))
	log.Info("isolation tried", "cases", len(report.Results), "escaped", report.Count(doctor.Escaped), "took", report.Took)
}
