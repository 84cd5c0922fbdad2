package command_test

import (
	"strings"
	"testing"
)

func TestWrongInvocations(t *testing.T) {
	for _, tc := range []struct {
		line, want string
	}{
		{"frob", `brig: unknown command "frob"` + "\ntry: brig --help\n"},
		{"creat", `brig: unknown command "creat"; did you mean create?` + "\ntry: brig --help\n"},
		{"image frob", `brig: unknown command "frob"` + "\ntry: brig image --help\n"},
		{"create", "brig: expected: brig create [flags] IMAGE [-- ARGV...]\ntry: brig create --help\n"},
		{"create img x -- y", `brig: "x" stands before --; the program and its arguments go after it` + "\ntry: brig create --help\n"},
		{"create img python3 -c x", "brig: unknown shorthand flag: 'c' in -c; the program and its arguments go after --\ntry: brig create --help\n"},
		{"create --gpu 0 img", "brig: --gpu 0: a number says how many, at least 1, and stands alone; write the GPU of an index as device=0\ntry: brig create --help\n"},
		{"create --gpu 1 --gpu GPU-a img", "brig: --gpu 1: a number says how many, at least 1, and stands alone; write the GPU of an index as device=1\ntry: brig create --help\n"},
		{"create --gpu all img", "brig: --gpu \"all\": write it as a number of GPUs, device=INDEX[,INDEX...], GPU-UUID or nvidia.com/gpu=NAME\ntry: brig create --help\n"},
		{"create --gpu 0,1 img", "brig: --gpu \"0,1\": write it as a number of GPUs, device=INDEX[,INDEX...], GPU-UUID or nvidia.com/gpu=NAME\ntry: brig create --help\n"},
		{"create --gpu-capability video img", "brig: --gpu-capability is of no use without --gpu\ntry: brig create --help\n"},
		{"create --port x img", `brig: port "x": write it as 8080, 8080/h2 or 8080/tcp` + "\ntry: brig create --help\n"},
		{"create --port 80/udp img", `brig: port "80/udp": write it as 8080, 8080/h2 or 8080/tcp` + "\ntry: brig create --help\n"},
		{"create --env A img", `brig: --env "A": write it as KEY=VALUE` + "\ntry: brig create --help\n"},
		{"create --env A=1 --env A=2 img", `brig: --env: "A" is given twice` + "\ntry: brig create --help\n"},
		{"create --no-egress --cidr-allow 1.1.1.1/32 img", "brig: --no-egress and --cidr-allow exclude each other; keep one\ntry: brig create --help\n"},
		{"create --no-egress --domain-allow example.com img", "brig: --no-egress and --domain-allow exclude each other; keep one\ntry: brig create --help\n"},
		{"policy set", "brig: expected: brig policy set [flags] SANDBOX\ntry: brig policy set --help\n"},
		{"policy set web", "brig: nothing says what the sandbox may connect to; give the whole policy, or --open for the public internet\ntry: brig policy set --help\n"},
		{"policy set --for 5m web", "brig: nothing says what the sandbox may connect to; give the whole policy, or --open for the public internet\ntry: brig policy set --help\n"},
		{"policy set --inbound-cidr 192.0.2.0/24 web", "brig: nothing says what the sandbox may connect to; give the whole policy, or --open for the public internet\ntry: brig policy set --help\n"},
		{"policy set --open --no-egress web", "brig: --open and a list, --no-egress or --block-network exclude each other; keep one\ntry: brig policy set --help\n"},
		{"policy explain web", "brig: expected: brig policy explain [--protocol NAME] SANDBOX HOST[:PORT]\ntry: brig policy explain --help\n"},
		{"policy explain web 8.8.8.8:http", `brig: "8.8.8.8:http": write it as HOST or HOST:PORT, an IPv6 address with a port as [ADDRESS]:PORT` + "\ntry: brig policy explain --help\n"},
		{"policy explain web 8.8.8.8:0", `brig: "8.8.8.8:0": write it as HOST or HOST:PORT, an IPv6 address with a port as [ADDRESS]:PORT` + "\ntry: brig policy explain --help\n"},
		{"events a b", "brig: expected: brig events [SANDBOX]\ntry: brig events --help\n"},
		{"create --memory 0 img", "brig: --memory must be positive; leave it out for the node's default\ntry: brig create --help\n"},
		{"create --pids 0 img", "brig: --pids must be positive; leave it out for the node's default\ntry: brig create --help\n"},
		{"create --tmpfs /a:x img", `brig: --tmpfs "/a:x": write it as PATH or PATH:MIB` + "\ntry: brig create --help\n"},
		{"create --mount /a:/b img", `brig: --mount "/a:/b": type is neither bind nor tmpfs; write it as type=bind,source=PATH,target=PATH[,rw] or type=tmpfs,target=PATH[,size=MIB]` + "\ntry: brig create --help\n"},
		{"create --mount type=bind,source=/a,target=/b,ro img", `brig: --mount "type=bind,source=/a,target=/b,ro": it has no ro; write it as type=bind,source=PATH,target=PATH[,rw] or type=tmpfs,target=PATH[,size=MIB]` + "\ntry: brig create --help\n"},
		{"create --mount type=tmpfs,target=/b,target=/c img", `brig: --mount "type=tmpfs,target=/b,target=/c": target is given twice; write it as type=bind,source=PATH,target=PATH[,rw] or type=tmpfs,target=PATH[,size=MIB]` + "\ntry: brig create --help\n"},
		{"create --secret NO_SUCH_VARIABLE img", "brig: --secret NO_SUCH_VARIABLE: brig's environment has no such variable; write NAME=VALUE, or use --secret-file\ntry: brig create --help\n"},
		{"create --secret A=hush --secret A=hush img", "brig: secret A is given twice\ntry: brig create --help\n"},
		{"create --secret-file A img", `brig: --secret-file "A": write it as NAME=FILE` + "\ntry: brig create --help\n"},
		{"create --ready 8080 img", `brig: --ready "8080": write it as tcp:PORT or exec:COMMAND` + "\ntry: brig create --help\n"},
		{"create --ready-timeout 5s img", "brig: --ready-timeout is of no use without --ready\ntry: brig create --help\n"},
		{"image pull --username ada img", "brig: --username and --password-stdin belong together\ntry: brig image pull --help\n"},
		{"image pull --password-stdin img", "brig: --username and --password-stdin belong together\ntry: brig image pull --help\n"},
		{"image pull --identity-token-stdin img", "brig: stdin is empty; write the secret to it\ntry: brig image pull --help\n"},
		{"run img", "brig: run needs a program: brig run [flags] IMAGE -- ARGV... (a sandbox that idles is made by brig create)\ntry: brig run --help\n"},
		{"exec", "brig: expected: brig exec [-it] [flags] SANDBOX -- ARGV...\ntry: brig exec --help\n"},
		{"exec sb", "brig: exec needs a program: brig exec [-it] [flags] SANDBOX -- ARGV...\ntry: brig exec --help\n"},
		{"exec sb --", "brig: exec needs a program: brig exec [-it] [flags] SANDBOX -- ARGV...\ntry: brig exec --help\n"},
		{"exec sb -it -- sh", "brig: -it stands after SANDBOX; flags of exec go before it, the program after --\ntry: brig exec --help\n"},
		{"exec -t sb -- sh", "brig: -t needs a terminal on stdin; leave it out\ntry: brig exec --help\n"},
		{"exec --json -i sb -- sh", "brig: --json collects the output and takes no -i or -t; leave one out\ntry: brig exec --help\n"},
		{"tunnel open sb", "brig: expected: brig tunnel open SANDBOX PORT[/h2|/tcp]\ntry: brig tunnel open --help\n"},
		{"ls x", "brig: expected: brig ls [flags]\ntry: brig ls --help\n"},
		{"rm", "brig: expected: brig rm [--force] SANDBOX...\ntry: brig rm --help\n"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			check(t, brig(t, "/nowhere", "", strings.Fields(tc.line)...), result{Status: 2, Err: tc.want})
		})
	}
}

func TestNoBrigd(t *testing.T) {
	const away = "brig: brigd does not answer on /nowhere; is it running? start it (systemctl start brigd), " +
		"or name its socket with --socket or BRIG_SOCKET\n"
	for line, status := range map[string]int{
		"ls": 1, "create img": 1, "rm x": 1, "logs -f x": 1, "image ls": 1, "node ca": 1,
		"policy get x": 1, "policy set --open x": 1, "events": 1, "policy explain x 8.8.8.8": 125,
		"run img -- x": 125, "exec sb -- x": 125, "wait sb": 125,
	} {
		t.Run(line, func(t *testing.T) {
			check(t, brig(t, "/nowhere", "", strings.Fields(line)...), result{Status: status, Err: away})
		})
	}
}

func TestSocketFromTheEnvironment(t *testing.T) {
	n := &fakeNode{}
	t.Setenv("BRIG_SOCKET", n.start(t))
	check(t, brig(t, "", "", "node", "ca"), result{Out: "/var/lib/brig/ca/ca.pem\n"})
}

func TestErrorsOfBrigdAreOneLine(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "create", "--block-network", "--port", "80", "img"), result{Status: 1,
		Err: "brig: Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist\n"})
	check(t, brig(t, socket, "", "exec", "nobody", "--", "x"), result{Status: 125,
		Err: "brig: no sandbox \"nobody\"; brig ls shows them\n"})
}
