package command_test

import (
	"regexp"
	"testing"
)

func TestListAndInspect(t *testing.T) {
	_, socket := node(t)
	got := brig(t, socket, "", "ls", "--tag", "team=a")
	got.Out = regexp.MustCompile(`\d+[smhd] ago`).ReplaceAllString(got.Out, "0s ago")
	check(t, got, result{Out: "" +
		"ID                   NAME  STATE    CREATED  ENDS  IMAGE                         COMMAND\n" +
		"sb-0000000000000001  web   running  0s ago   -     docker.io/library/img:latest  serve \"a b\"\n"})
	check(t, brig(t, socket, "", "ls", "--tag", "team=b", "--json"), result{Out: "[]\n"})
	check(t, brig(t, socket, "", "inspect", "web"), result{Out: `{
  "id": "sb-0000000000000001",
  "name": "web",
  "image": "docker.io/library/img:latest",
  "argv": [
    "serve",
    "a b"
  ],
  "tags": {
    "team": "a"
  },
  "state": "running",
  "owner_uid": 0,
  "created_at": "2030-01-02T03:04:05Z",
  "address": "10.88.0.2",
  "network": {
    "block_network": false,
    "cidr_allowlist": null,
    "domain_allowlist": null,
    "inbound_cidr_allowlist": null
  },
  "policy_generation": 1,
  "resources": {
    "cpu": 0,
    "memory_mib": 0
  },
  "tunnels": [
    {
      "sandbox_port": 8080,
      "kind": "tls",
      "host": "127.0.0.1",
      "port": 38080,
      "url": "https://127.0.0.1:38080",
      "connections": 0,
      "bytes_in": 0,
      "bytes_out": 0
    }
  ]
}
`})
}

func TestTunnels(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "tunnels", first), result{Out: "8080  https://127.0.0.1:38080\n"})
	check(t, brig(t, socket, "", "tunnel", "open", "web", "22/tcp"), result{Out: "tcp://127.0.0.1:30022\n"})
	check(t, brig(t, socket, "", "tunnels", first), result{Out: "8080  https://127.0.0.1:38080\n22    tcp://127.0.0.1:30022\n"})
	check(t, brig(t, socket, "", "tunnel", "close", "web", "8080"), result{Out: "8080\n"})
	check(t, brig(t, socket, "", "tunnel", "close", "web", "8080"), result{Status: 1, Err: "brig: no tunnel to port 8080\n"})
	check(t, brig(t, socket, "", "tunnel", "open", "web", "70000"), result{Status: 1, Err: "brig: port 70000: want 1 to 65535\n"})
	check(t, brig(t, socket, "", "tunnels", first, "--json"), result{Out: `[
  {
    "sandbox_port": 22,
    "kind": "tcp",
    "host": "127.0.0.1",
    "port": 30022,
    "url": "tcp://127.0.0.1:30022",
    "connections": 2,
    "bytes_in": 3,
    "bytes_out": 4
  }
]
`})
}

func TestWaitAndRemove(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "create", "img", "--", "say", "", "", "9"), result{Out: "sb-0000000000000002\n"})
	check(t, brig(t, socket, "", "wait", "sb-0000000000000002"), result{Status: 9})
	check(t, brig(t, socket, "", "wait", "--json", "sb-0000000000000002"), result{Status: 9,
		Out: "{\n  \"code\": 9,\n  \"reason\": \"exited\",\n  \"at\": \"2030-01-02T03:04:05Z\"\n}\n"})
	// Both are tried, the unknown one in the middle is told, a running one is ended.
	check(t, brig(t, socket, "", "rm", "sb-0000000000000002", "ghost", "web"), result{Status: 1,
		Out: "sb-0000000000000002\nweb\n", Err: "brig: no sandbox \"ghost\"; brig ls shows them\n"})
	check(t, brig(t, socket, "", "ls", "--all", "--json"), result{Out: "[]\n"})
	check(t, brig(t, socket, "", "create", "img"), result{Out: first + "\n"})
	check(t, brig(t, socket, "", "rm", "--force", "--json", first), result{Out: "[\n  {\n    \"removed\": \"" + first + "\"\n  }\n]\n"})
}

func TestCompletionOffersSandboxes(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "__completeNoDesc", "--socket", socket, "logs", ""), result{
		Out: first + "\nweb\n:4\n", Err: "Completion ended with directive: ShellCompDirectiveNoFileComp\n"})
}
