"""The product model's example: create, tunnels()[port].url, a request through it."""

import ssl
import sys
import time
import urllib.error
import urllib.request

import brig

image = sys.argv[1]
with brig.Sandbox.create(
    image, "python3", "-m", "http.server", "12345",
    encrypted_ports=[12345], workdir="/usr", timeout=120, tags={"test": "python"}, env={"A": "1"}, cpu=1, memory=256,
) as sb:
    tunnel = sb.tunnels()[12345]
    assert tunnel.url == "https://%s:%d" % tunnel.tls_socket, tunnel
    assert (tunnel.kind, tunnel.host, tunnel.port) == ("tls", *tunnel.tls_socket), tunnel

    def fetch(context):
        https = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        with opener.open(tunnel.url, timeout=10) as answer:
            return answer.read().decode()

    for attempt in range(100):
        try:
            page = fetch(sb.ssl_context())
            break
        except (urllib.error.URLError, OSError) as e:  # it does not listen yet
            assert "CERTIFICATE" not in str(e), e
            time.sleep(0.2)
    assert "bin/" in page and "lib/" in page, page
    assert "bin/" in fetch(ssl.create_default_context(cafile=sb.ca_path()))

    # Without the node's CA nobody trusts it.
    try:
        fetch(ssl.create_default_context())
    except urllib.error.URLError as e:
        assert isinstance(e.reason, ssl.SSLCertVerificationError), e
    else:
        raise AssertionError("the tunnel is trusted without the node's CA")

    assert [s.object_id for s in brig.Sandbox.list(tags={"test": "python"})] == [sb.object_id]
    assert sb.tags == {"test": "python"} and brig.Sandbox.from_id(sb.object_id).poll() is None
    generation = sb.set_network_policy(cidr_allowlist=[])
    policy = sb.network_policy()
    assert int(policy["generation"]) == generation == 2 and policy["network"] == {"cidrAllowlist": {}}, policy
    verdict, rule = sb.explain_network("8.8.8.8", 443)
    assert verdict == "deny" and rule, (verdict, rule)
    assert sb.terminate() == 137 and sb.reason == "terminated" and sb.poll() == 137 and sb.wait() == 137
    assert "GET /" in sb.stderr.read(), "the server's log is not there"

# It was removed, and errors have classes.
for wrong, error in (
    (lambda: brig.Sandbox.from_id(sb.object_id), brig.NotFound),
    (lambda: brig.Sandbox.create(image, block_network=True, encrypted_ports=[1]), brig.InvalidArgument),
    (lambda: brig.Sandbox.create(image, cidr_allowlist=["not-an-ip/8"]), brig.InvalidArgument),
    (lambda: brig.Sandbox.from_name("no-such-name"), brig.NotFound),
):
    try:
        wrong()
    except error as e:
        assert str(e)
    else:
        raise AssertionError("no %s" % error.__name__)
