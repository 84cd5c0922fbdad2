package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// in runs an applet in the sandbox.
func (r *run) in(ctx context.Context, applet ...string) (code int32, output string, err error) {
	res, err := r.c.Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{Exec: &brigv1.ExecSpec{
		Sandbox: r.sandbox.GetId(),
		Argv:    append([]string{busybox}, applet...),
		Timeout: durationpb.New(20 * time.Second),
	}}))
	if err != nil {
		return 0, "", err
	}
	return res.Msg.GetExit().GetCode(), string(res.Msg.GetStdout()) + string(res.Msg.GetStderr()), nil
}

// expect is in for an applet that must succeed and say word.
func (r *run) expect(ctx context.Context, word string, applet ...string) (string, error) {
	code, output, err := r.in(ctx, applet...)
	switch {
	case err != nil:
		return "", err
	case code != 0 || !strings.Contains(output, word):
		return "", fmt.Errorf("%s in the sandbox: status %d, %q; expected status 0 and %q",
			strings.Join(applet, " "), code, output, word)
	}
	return output, nil
}

// kernel reads the sandbox's kernel log: gVisor's begins with its name, and the
// host's cannot be read from inside.
func (r *run) kernel(ctx context.Context) (string, error) {
	log, err := r.expect(ctx, "gVisor", "dmesg")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "gVisor") {
			return strings.TrimSpace(line), nil
		}
	}
	return "gVisor", nil
}

func (r *run) exec(ctx context.Context) (string, error) {
	out, err := r.expect(ctx, "Linux", "uname", "-a")
	return "uname -a: " + strings.TrimSpace(out), err
}

func (r *run) resolve(ctx context.Context) (string, error) {
	const name = "resolver.brig.internal"
	out, err := r.expect(ctx, "169.254.1.1", "nslookup", name)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return fmt.Sprintf("%s: %s", name, strings.TrimSpace(lines[len(lines)-1])), nil
}

// tunnel fetches the sandbox's page through TLS that only the node's CA vouches
// for.
func (r *run) tunnel(ctx context.Context) (string, error) {
	if len(r.sandbox.GetTunnels()) != 1 {
		return "", fmt.Errorf("the sandbox has %d tunnels, expected 1", len(r.sandbox.GetTunnels()))
	}
	url := r.sandbox.GetTunnels()[0].GetUrl()
	ca, err := r.c.Node.CA(ctx, connect.NewRequest(&brigv1.CARequest{}))
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca.Msg.GetPem())) {
		return "", fmt.Errorf("the node's CA is no certificate: %q", ca.Msg.GetPem())
	}
	// No proxy: the page must come from the tunnel itself.
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	var page string
	for attempt := 0; ; attempt++ {
		page, err = fetch(ctx, &http.Client{Transport: transport, Timeout: 10 * time.Second}, url)
		if err == nil || attempt == 50 {
			break
		}
		// The program may not listen yet.
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(page) != r.token {
		return "", fmt.Errorf("%s answered %q, expected %q", url, page, r.token)
	}
	return url + " answered with the sandbox's page", nil
}

func fetch(ctx context.Context, hc *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := hc.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	page, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	return string(page), err
}

// blocked tries to reach from the sandbox what no sandbox may reach: the cloud
// metadata address, and a listener of ours on every address of this node, which
// answers the node itself.
func (r *run) blocked(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp4", "0.0.0.0:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	_, listenPort, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return "", err
	}
	targets := []string{"169.254.169.254:80"}
	for _, a := range nodeAddresses() {
		target := net.JoinHostPort(a, listenPort)
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err := d.DialContext(ctx, "tcp4", target)
		if err != nil {
			continue // not even the node reaches it: it would prove nothing
		}
		_ = conn.Close()
		targets = append(targets, target)
	}
	for _, target := range targets {
		host, p, _ := net.SplitHostPort(target)
		code, output, err := r.in(ctx, "nc", "-w", "3", host, p)
		if err != nil {
			return "", err
		}
		if code == 0 {
			return "", fmt.Errorf("the sandbox reached %s, which its policy forbids (%q)", target, output)
		}
	}
	return "from the sandbox no way to " + strings.Join(targets, ", "), nil
}

// nodeAddresses are this machine's IPv4 addresses but loopback.
func nodeAddresses() []string {
	addrs, _ := net.InterfaceAddrs() // none is fine: fewer targets
	var out []string
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			out = append(out, ip.IP.String())
		}
	}
	return out
}
