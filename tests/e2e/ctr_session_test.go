package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCtrRunFlags: each flag of `ctr run` that says something about a container, by
// what its program sees.
func TestCtrRunFlags(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	dir := t.TempDir()
	env, pidFile, log := filepath.Join(dir, "env"), filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	if err := os.WriteFile(env, []byte("FROM=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		flags  string
		script string
		stdout string
		code   int
	}{
		{"", "exit 42", "", 42},
		{"", "kill -TERM $$", "", 143},
		{"--cwd /usr/bin", "pwd", "/usr/bin\n", 0},
		{"--cwd /not/there", "pwd", "/not/there\n", 0},
		{"--env A=b --env C=", "echo $A-${C-unset}-$PATH", "b--/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", 0},
		{"--env-file " + env, "echo $FROM", "file\n", 0},
		{"--user 1000:1001", "id -u; id -g; touch /bin/x", "1000\n1001\n", 1},
		{"--user nobody", "id -un", "nobody\n", 0},
		{"--hostname inside", "hostname", "inside\n", 0},
		{"--read-only", "touch /x", "", 1},
		{"--mount type=bind,src=" + dir + ",dst=/mnt,options=rbind:rw", "echo written > /mnt/file", "", 0},
		{"--mount type=bind,src=" + dir + ",dst=/mnt,options=rbind:ro", "cat /mnt/file; echo x > /mnt/file", "written\n", 1},
		{"--rlimit-nofile 100:200", "ulimit -Sn; ulimit -Hn", "100\n200\n", 0},
		{"--cap-drop CAP_CHOWN", "chown 1 /tmp", "", 1},
		{"--memory-limit 134217728", "free -m | awk 'NR == 2 { print $2 }'", "128\n", 0},
		{"--cpus 0.5 --cpuset-cpus 0", "echo runs", "runs\n", 0},
		{"--null-io", "echo lost; exit 3", "", 3},
		{"--log-uri file://" + log, "echo logged", "", 0},
		{"--pid-file " + pidFile, "echo runs", "runs\n", 0},
		{"--label a=b --annotation c=d --seccomp --snapshotter overlayfs --fifo-dir " + dir, "echo runs", "runs\n", 0},
		{"--privileged --privileged-without-host-devices", "mount -t tmpfs t /tmp && echo mounted", "mounted\n", 0},
	} {
		r := ctrRun(t, n.Node, strings.Fields(c.flags), fmt.Sprint("flags-", i), "sh", "-c", c.script)
		if r.Code != c.code || r.Stdout != c.stdout {
			t.Errorf("%s: want status %d and %q: %s", c.flags, c.code, c.stdout, r)
		}
	}
	for path, want := range map[string]string{log: `^logged\n$`, pidFile: `^[0-9]+$`, filepath.Join(dir, "file"): `^written\n$`} {
		if data, err := os.ReadFile(path); err != nil || !regexp.MustCompile(want).Match(data) {
			t.Errorf("%s: %q, %v; want %s", path, data, err, want)
		}
	}
}

// TestCtrSession is one container's life, command by command.
func TestCtrSession(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	newBox(t, n.Node, "session")
	const script = `trap "exit 9" USR1; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done`
	for _, c := range []struct {
		command string
		code    int
		output  string // a regular expression that stdout and stderr match, without warnings
	}{
		{"containers create --runtime io.containerd.brig.v1 " + ctrImage + " session sh -c SCRIPT", 0, `^$`},
		{"tasks ls", 0, `^TASK +PID +STATUS *\n`},
		{"tasks start --detach session", 0, `^$`},
		{"tasks start --detach session", 1, `already exists`},
		{"tasks ls", 0, `session +[0-9]+ +RUNNING`},
		{"tasks ps session", 0, `^PID +INFO *\n[0-9]+ +-`},
		{"tasks metrics session", 0, `(?s)session .*METRIC +VALUE`},
		{"tasks exec --exec-id a session sh -c |echo out; echo err >&2; exit 5|", 5, `^out\nerr\n$`},
		{"tasks exec --exec-id b --cwd /bin --user 7 session sh -c |pwd; id -u|", 0, `^/bin\n7\n$`},
		{"tasks exec --exec-id c session /no/such/program", 1, `/no/such/program`},
		{"tasks exec --exec-id d --detach session sleep 4343", 0, `^$`},
		{"tasks ps session", 0, `exec_id:"d"`},
		{"tasks exec --exec-id d session true", 1, `already exists`},
		{"tasks kill --exec-id d --signal KILL session", 0, `^$`},
		{"tasks pause session", 0, `^$`},
		{"tasks pause session", 1, `.`},
		{"tasks ls", 0, `session +[0-9]+ +PAUSED`},
		{"tasks exec --exec-id e session true", 1, `not running`},
		{"tasks resume session", 0, `^$`},
		{"tasks resume session", 1, `.`},
		{"tasks exec --exec-id f session cat /count", 0, `^[0-9]+\n$`},
		{"tasks delete session", 1, `must be stopped`},
		{"containers delete session", 1, `running`},
		{"tasks kill --signal USR1 session", 0, `^$`},
		{"tasks ls", 0, `session +[0-9]+ +STOPPED`},
		{"tasks kill session", 1, `not found`},
		{"tasks exec --exec-id g session true", 1, `.`},
		{"tasks delete session", 0, `9`},
		{"tasks delete session", 1, `.`},
		{"tasks start --detach session", 0, `^$`}, // a container outlives its task
		{"tasks kill --all --signal KILL session", 0, `^$`},
		{"tasks delete --force session", 0, `137`},
		{"tasks start --detach session", 0, `^$`},
		{"tasks delete --force session", 0, `137`},
		{"containers delete session", 0, `^$`},
		{"containers ls -q", 0, ``},
	} {
		args := arguments(strings.ReplaceAll(c.command, "SCRIPT", "|"+script+"|"))
		try := func() error {
			r := n.Ctr(t, ctrNamespace, args...)
			if r.Code != c.code || !regexp.MustCompile(c.output).MatchString(r.Stdout+warnings.ReplaceAllString(r.Stderr, "")) {
				return fmt.Errorf("want status %d and %s: %s", c.code, c.output, r)
			}
			return nil
		}
		if strings.HasSuffix(c.command, " ls") { // a signal takes its time
			eventually(t, 10*time.Second, try)
		} else if err := try(); err != nil {
			t.Error(err)
		}
	}
}

var warnings = regexp.MustCompile(`(?m)^.*DEPRECATION.*\n`)

// arguments of a command line; what stands between bars is one.
func arguments(line string) (args []string) {
	for i, part := range strings.Split(line, "|") {
		if i%2 == 0 {
			args = append(args, strings.Fields(part)...)
		} else {
			args = append(args, part)
		}
	}
	return args
}

// TestCtrStdin: the program reads what ctr reads, and its end. ctr passes on an end only
// once the task is there.
func TestCtrStdin(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	cmd := n.CtrCommand(t.Context(), ctrNamespace, "run", "--rm", "--runtime", "io.containerd.brig.v1", ctrImage, "stdin", "cat")
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	out := new(lines)
	go out.read(stdout)
	if _, err := io.WriteString(stdin, "in and out\n"); err != nil {
		t.Fatal(err)
	}
	out.expect(t, "in and out\n")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(cmd, 20*time.Second); err != nil {
		t.Error(err)
	}
}

// TestCtrAttach: whoever attaches gets the output from then on, gives the input, and ends
// with the program's status.
func TestCtrAttach(t *testing.T) {
	t.Parallel()
	n := useCtr(t)
	t.Run("streams", func(t *testing.T) {
		b := newBox(t, n.Node, "attach")
		b.run(t, `while [ ! -e /go ]; do sleep 0.1; done; echo out; echo err >&2; exit 4`)
		cmd := n.CtrCommand(t.Context(), ctrNamespace, "tasks", "attach", b.name)
		out := new(lines)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go out.read(stdout)
		time.Sleep(500 * time.Millisecond) // ctr does not say when it is attached
		b.exec(t, "touch /go")
		out.expect(t, "out\n")
		if err := waitFor(cmd, 20*time.Second); err == nil || cmd.ProcessState.ExitCode() != 4 {
			t.Errorf("status %d, want 4", cmd.ProcessState.ExitCode())
		}
	})
	t.Run("terminal", func(t *testing.T) {
		b := newBox(t, n.Node, "attach-tty")
		cmd := n.CtrCommand(t.Context(), ctrNamespace, "run", "-d", "-t", "--runtime", "io.containerd.brig.v1", ctrImage, b.name, "/bin/sh")
		_, _ = terminal(t, cmd, 20, 60)
		if err := waitFor(cmd, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		cmd = n.CtrCommand(t.Context(), ctrNamespace, "tasks", "attach", b.name)
		master, out := terminal(t, cmd, 30, 90)
		// ctr sets the size some time after it has attached itself.
		if _, err := io.WriteString(master, "until [ \"$(stty size)\" = '30 90' ]; do sleep 0.1; done; stty size; tty; exit 6\n"); err != nil {
			t.Fatal(err)
		}
		out.expect(t, "30 90")
		if err := waitFor(cmd, 20*time.Second); err == nil || cmd.ProcessState.ExitCode() != 6 {
			t.Errorf("status %d, want 6", cmd.ProcessState.ExitCode())
		}
	})
}
