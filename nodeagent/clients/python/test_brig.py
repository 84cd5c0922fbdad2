"""What of brig.py needs no node: python3 -m unittest."""

import base64
import datetime
import http.server
import io
import json
import os
import socketserver
import struct
import tempfile
import threading
import unittest

import brig


def reader(data):
    return io.BytesIO(data).read


def frame(flags, message):
    payload = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


class Envelopes(unittest.TestCase):
    def test_there_and_back(self):
        sent = [{}, {"a": "ü"}, {"data": base64.b64encode(bytes(range(256))).decode()}]
        stream = b"".join(brig.envelope(json.dumps(m).encode()) for m in sent) + frame(2, {})
        self.assertEqual(list(brig.envelopes(reader(stream))), sent)

    def test_nothing_comes_after_the_end(self):
        self.assertEqual(list(brig.envelopes(reader(frame(2, {"metadata": {}}) + b"garbage"))), [])

    def test_the_error_at_the_end(self):
        messages = brig.envelopes(reader(frame(0, {"n": 1}) + frame(2, {"error": {"code": "not_found", "message": "none"}})))
        self.assertEqual(next(messages), {"n": 1})
        with self.assertRaises(brig.NotFound) as caught:
            next(messages)
        self.assertEqual((caught.exception.code, str(caught.exception)), ("not_found", "none"))

    def test_cut_anywhere(self):
        stream = frame(0, {"n": 1}) + frame(2, {})
        for size in range(len(stream)):
            with self.subTest(size), self.assertRaises(brig.ConnectionLost):
                list(brig.envelopes(reader(stream[:size])))

    def test_what_cannot_be_read(self):
        for name, stream in {
            "compressed": frame(1, {}),
            "unknown flags": frame(8, {}),
            "no JSON": struct.pack(">BI", 0, 1) + b"x",
            "too large": struct.pack(">BI", 0, brig.MAX_ENVELOPE + 1),
        }.items():
            with self.subTest(name), self.assertRaises(brig.Internal):
                list(brig.envelopes(reader(stream)))


class Values(unittest.TestCase):
    def test_gpus(self):
        for value, want in (
            (None, None),
            (2, {"count": 2}),
            ("0", {"devices": ["0"]}),
            (("GPU-a", "nvidia.com/gpu=1"), {"devices": ["GPU-a", "nvidia.com/gpu=1"]}),
        ):
            with self.subTest(value):
                self.assertEqual(brig._gpu(value), want)

    def test_durations(self):
        for seconds, want in ((1, "1s"), (0.5, "0.5s"), (300, "300s"), (1e-9, "0.000000001s"), (86400.25, "86400.25s")):
            self.assertEqual(brig._duration(seconds), want)

    def test_times(self):
        want = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        self.assertEqual(brig._time("2030-01-02T03:04:05Z"), want)
        self.assertEqual(brig._time("2030-01-02T03:04:05.500Z"), want + datetime.timedelta(seconds=0.5))
        self.assertEqual(brig._time("2030-01-02T03:04:05.123456789Z"), want + datetime.timedelta(microseconds=123456))
        self.assertIsNone(brig._time(None))

    def test_errors(self):
        for code, kind in brig._ERRORS.items():
            self.assertIs(type(brig._error({"code": code, "message": "m"})), kind)
        self.assertIs(type(brig._error({"code": "new", "message": "m"})), brig.Unknown)
        self.assertIs(type(brig._error(None)), brig.Unknown)

    def test_policies(self):
        self.assertEqual(brig._network(False, None, None, None), {})
        self.assertEqual(brig._network(False, [], None, None), {"cidrAllowlist": {"cidrs": []}})
        self.assertEqual(brig._network(True, None, ["a.example"], ("::/0",)), {
            "blockNetwork": True, "domainAllowlist": {"domains": ["a.example"]}, "inboundCidrAllowlist": {"cidrs": ["::/0"]}})

    def test_tunnels(self):
        tls, tcp = brig.Tunnel(1, "tls", "h", 2, "https://h:2"), brig.Tunnel(3, "tcp", "h", 4, "tcp://h:4")
        self.assertEqual((tls.tls_socket, tcp.tcp_socket), (("h", 2), ("h", 4)))
        for wrong in (lambda: tls.tcp_socket, lambda: tcp.tls_socket):
            self.assertRaises(ValueError, wrong)


class Node:
    """Serves on a unix socket what a test lays out: one handler for each connection."""

    def __init__(self, *handlers):
        self.handlers, self.asked = list(handlers), []
        self.dir = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.dir.name, "s")
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            address_string = log_message = lambda *_: ""

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                node.asked.append((self.path, body))
                node.handlers.pop(0)(self)
                self.close_connection = True

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(self.socket, Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.dir.cleanup()


def answer(status, data, length=None):
    def handle(h):
        h.send_response(status)
        h.send_header("Content-Length", str(len(data) if length is None else length))
        h.end_headers()
        h.wfile.write(data)
    return handle


def output(channel, offset, data):
    return frame(0, {"output": {"channel": "CHANNEL_" + channel, "offset": str(offset), "data": base64.b64encode(data).decode()}})


class Calls(unittest.TestCase):
    def test_nobody_there(self):
        with self.assertRaises(brig.ConnectionLost) as caught:
            brig.Client("/nowhere/brig.sock").again("Node/Info", {})
        self.assertIn("/nowhere/brig.sock", str(caught.exception))

    def test_an_error(self):
        with Node(answer(404, b'{"code":"not_found","message":"there is no sandbox"}')) as node:
            with self.assertRaisesRegex(brig.NotFound, "there is no sandbox"):
                brig.Client(node.socket).call("Sandboxes/Get", {"sandbox": "x"})

    def test_streams_go_on_where_they_were(self):
        part1 = output("STDOUT", 0, b"one\ntw") + output("STDERR", 0, b"err")
        part2 = output("STDOUT", 4, b"two\n") + frame(0, {"exit": {"code": 3, "reason": "REASON_EXITED"}}) + frame(2, {})
        with Node(answer(200, part1, length=1000), answer(200, part2)) as node:
            p = brig.ContainerProcess(brig.Client(node.socket), "sb", "x", True)
            self.assertEqual(list(p.stdout), ["one\n", "two\n"])
            self.assertEqual((p.stderr.read(), p.returncode, p.reason, p.stdout.dropped), ("err", 3, "exited", 0))
            second = json.loads(node.asked[1][1][5:])
        self.assertEqual(second, {"sandbox": "sb", "execId": "x", "follow": True, "stdoutOffset": "6", "stderrOffset": "3"})

    def test_dropped_output_is_said(self):
        part = output("STDOUT", 100, b"late") + frame(0, {"exit": {}}) + frame(2, {})
        with Node(answer(200, part)) as node:
            p = brig.ContainerProcess(brig.Client(node.socket), "sb", "x", False)
            self.assertEqual((p.wait(), p.stdout.read(), p.stdout.dropped), (0, b"late", 100))

    def test_stdin_goes_on_where_it_was(self):
        cut = lambda h: h.connection.close()
        with Node(answer(200, b'{"offset":"3"}'), cut, answer(200, b'{"offset":"6"}')) as node:
            w = brig.StreamWriter(brig.Client(node.socket), "Exec/Write", {"sandbox": "sb"})
            w.write("abcdef")
            w.write_eof()
            w.drain()
            sent = [json.loads(body) for _, body in node.asked]
        self.assertEqual([(m["offset"], base64.b64decode(m["data"]), m["eof"]) for m in sent],
                         [("0", b"abcdef", True), ("3", b"def", True), ("3", b"def", True)])
        self.assertRaises(ValueError, w.write, b"more")

    def test_both_outputs_at_once(self):
        part = b"".join(output(c, i, bytes([65 + i])) for i in range(20) for c in ("STDOUT", "STDERR"))
        with Node(answer(200, part + frame(0, {"exit": {}}) + frame(2, {}))) as node:
            p = brig.ContainerProcess(brig.Client(node.socket), "sb", "x", True)
            got = {}
            readers = [threading.Thread(target=lambda s=s: got.__setitem__(s, getattr(p, s).read())) for s in ("stdout", "stderr")]
            for t in readers:
                t.start()
            for t in readers:
                t.join()
        self.assertEqual(got, dict.fromkeys(("stdout", "stderr"), "ABCDEFGHIJKLMNOPQRST"))


if __name__ == "__main__":
    unittest.main()
