"""A client of brigd: sandboxes on this machine, by the standard library alone.

    import brig

    sb = brig.Sandbox.create("python:3-slim", encrypted_ports=[12345])
    p = sb.exec("python3", "-c", "print(6 * 7)")
    print(p.stdout.read(), p.wait())
    print(sb.tunnels()[12345].url)
    sb.terminate()

Copy this file into a project, or put its folder on the path. Python 3.9 or later.

It speaks the Connect protocol with JSON over brigd's unix socket: BRIG_SOCKET, else
/run/brig/brig.sock, or the one that is passed as socket=. Every call has a connection of
its own, so a client, and everything made by it, may be used by several threads.

A restart of brigd is waited out for up to 30 seconds, by every call that may be repeated:
creates and execs carry a key by which they are done once, and streams go on at the byte
where they were. A brigd that never answered is an error at once.

Times are seconds, sizes are bytes unless a name says otherwise. Errors are subclasses of
Error, one for each code of the protocol, and say what to do.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import io
import json
import os
import socket as _socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, IO, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

__all__ = [
    "Client", "ContainerProcess", "Error", "FileInfo", "Image", "Sandbox", "StreamReader", "StreamWriter", "Tunnel",
    "Aborted", "AlreadyExists", "Canceled", "ConnectionLost", "DataLoss", "DeadlineExceeded", "FailedPrecondition",
    "Internal", "InvalidArgument", "NotFound", "OutOfRange", "PermissionDenied", "ResourceExhausted", "Unavailable",
    "Unimplemented", "Unknown",
]

DEFAULT_SOCKET = "/run/brig/brig.sock"
PATIENCE = 30.0  # with a brigd that is being restarted
CHUNK = 512 << 10  # of what is sent at once
MAX_ENVELOPE = 64 << 20  # of what is received at once


# --- errors -----------------------------------------------------------------


class Error(Exception):
    """What brigd refused, or could not do. code is the protocol's."""

    code = "unknown"

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class Canceled(Error):
    code = "canceled"


class Unknown(Error):
    code = "unknown"


class InvalidArgument(Error):
    code = "invalid_argument"


class DeadlineExceeded(Error):
    code = "deadline_exceeded"


class NotFound(Error):
    code = "not_found"


class AlreadyExists(Error):
    code = "already_exists"


class PermissionDenied(Error):
    code = "permission_denied"


class ResourceExhausted(Error):
    code = "resource_exhausted"


class FailedPrecondition(Error):
    code = "failed_precondition"


class Aborted(Error):
    code = "aborted"


class OutOfRange(Error):
    code = "out_of_range"


class Unimplemented(Error):
    code = "unimplemented"


class Internal(Error):
    code = "internal"


class Unavailable(Error):
    code = "unavailable"


class DataLoss(Error):
    code = "data_loss"


class ConnectionLost(Unavailable):
    """brigd does not answer, or went away in the middle of a call."""


_ERRORS = {c.code: c for c in (
    Canceled, Unknown, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists, PermissionDenied, ResourceExhausted,
    FailedPrecondition, Aborted, OutOfRange, Unimplemented, Internal, Unavailable, DataLoss,
)}


def _error(answer: Any) -> Error:
    if not isinstance(answer, dict):
        return Unknown("brigd answered with no error that can be read")
    return _ERRORS.get(str(answer.get("code")), Unknown)(str(answer.get("message", "")))


# --- the Connect protocol ---------------------------------------------------


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str):
        super().__init__("brig")
        self._path = path

    def connect(self) -> None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def envelope(payload: bytes) -> bytes:
    """One message of a stream: a byte of flags, four of length, the message."""
    return struct.pack(">BI", 0, len(payload)) + payload


def envelopes(read: Callable[[int], bytes]) -> Iterator[Dict[str, Any]]:
    """Messages of a stream, until its sender says that it is at its end.

    read(n) returns n bytes, or fewer at the end of the connection. An error that the
    sender ends with is raised; a connection that ends without an end is ConnectionLost.
    """
    while True:
        head = read(5)
        if len(head) < 5:
            raise ConnectionLost("brigd went away in the middle of a stream")
        flags, size = struct.unpack(">BI", head)
        if flags & ~2 or size > MAX_ENVELOPE:
            raise Internal("brigd sent an envelope that cannot be read: flags %d, %d bytes" % (flags, size))
        payload = read(size)
        if len(payload) < size:
            raise ConnectionLost("brigd went away in the middle of a stream")
        try:
            message = json.loads(payload)
        except ValueError:
            raise Internal("brigd sent an envelope that is no JSON") from None
        if flags & 2:
            if isinstance(message, dict) and message.get("error"):
                raise _error(message["error"])
            return
        yield message


class Client:
    """The brigd behind one socket. Nothing is connected before the first call."""

    def __init__(self, socket: Optional[str] = None):
        self.socket = socket or os.environ.get("BRIG_SOCKET") or DEFAULT_SOCKET
        self._reached = False

    def call(self, procedure: str, message: Mapping[str, Any], timeout: Optional[float] = None) -> Dict[str, Any]:
        """One call with one answer, such as call("Node/Info", {})."""
        headers = {"Content-Type": "application/json"}
        if timeout is not None:
            headers["Connect-Timeout-Ms"] = str(max(1, int(timeout * 1000)))
        connection, response = self._post(procedure, json.dumps(message).encode(), headers)
        try:
            return self._answer(response)
        finally:
            connection.close()

    def again(self, procedure: str, message: Mapping[str, Any]) -> Dict[str, Any]:
        """A call that does no harm when it is made twice; a restart of brigd is waited out."""
        return self.patiently(lambda: self.call(procedure, message))

    def stream(self, procedure: str, message: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
        """A call with a stream of answers. Closing the iterator ends the call."""
        headers = {"Content-Type": "application/connect+json"}
        connection, response = self._post(procedure, envelope(json.dumps(message).encode()), headers)
        try:
            if response.status != 200:
                self._answer(response)
            yield from envelopes(lambda n: self._read(response, n))
        finally:
            connection.close()

    def send(self, procedure: str, messages: Iterable[Mapping[str, Any]]) -> Dict[str, Any]:
        """A call with a stream of messages and one answer."""
        headers = {"Content-Type": "application/connect+json", "Transfer-Encoding": "chunked"}
        body = (envelope(json.dumps(m).encode()) for m in messages)
        connection, response = self._post(procedure, body, headers)
        try:
            if response.status != 200:
                self._answer(response)
            answers = list(envelopes(lambda n: self._read(response, n)))
        finally:
            connection.close()
        if len(answers) != 1:
            raise Internal("brigd sent %d answers to %s" % (len(answers), procedure))
        return answers[0]

    def patiently(self, deed: Callable[[], Any]) -> Any:
        """Repeats a deed while brigd is away."""
        since: Optional[float] = None
        while True:
            try:
                return deed()
            except Unavailable:
                now = time.monotonic()
                since = now if since is None else since
                if not self._reached or now - since > PATIENCE:
                    raise
                time.sleep(0.2)

    def ca_path(self) -> str:
        """The file with the certificate that signs the tunnels' leaves."""
        return str(self.again("Node/CA", {})["path"])

    def ca_pem(self) -> str:
        """That certificate."""
        return str(self.again("Node/CA", {})["pem"])

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the node's tunnels and nothing else."""
        return ssl.create_default_context(cadata=self.ca_pem())

    def _post(self, procedure: str, body: Any, headers: Dict[str, str]) -> Tuple[_Connection, http.client.HTTPResponse]:
        connection = _Connection(self.socket)
        try:
            connection.connect()
        except OSError as e:
            raise ConnectionLost("brigd does not answer on %s (%s): is it running?" % (self.socket, e)) from e
        try:
            try:
                connection.request("POST", "/brig.v1." + procedure, body, {"Connect-Protocol-Version": "1", **headers},
                                   encode_chunked="Transfer-Encoding" in headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has read enough: its answer tells why
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise ConnectionLost("brigd went away: %s" % (e or type(e).__name__)) from e
        except BaseException:
            connection.close()
            raise
        self._reached = True
        return connection, response

    @staticmethod
    def _read(response: http.client.HTTPResponse, n: int) -> bytes:
        try:
            return response.read(n)
        except (OSError, ValueError, http.client.HTTPException) as e:
            raise ConnectionLost("brigd went away in the middle of an answer") from e

    def _answer(self, response: http.client.HTTPResponse) -> Dict[str, Any]:
        text = self._read(response, MAX_ENVELOPE)
        try:
            answer = json.loads(text)
        except ValueError:
            raise Unknown("brigd answered %d %s and no JSON" % (response.status, response.reason)) from None
        if response.status != 200:
            raise _error(answer)
        return answer


def _client(client: Optional[Client], socket: Optional[str]) -> Client:
    return client if client is not None else Client(socket)


def _duration(seconds: float) -> str:
    return ("%.9f" % seconds).rstrip("0").rstrip(".") + "s"


def _time(text: Optional[str]) -> Optional[datetime.datetime]:
    if not text:
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    at = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return at + datetime.timedelta(microseconds=int((fraction + "000000")[:6]))


def _present(**fields: Any) -> Dict[str, Any]:
    """The fields that were given; brigd takes what is absent for its default."""
    return {name: value for name, value in fields.items() if value is not None}


# --- streams ----------------------------------------------------------------

_CHANNELS = {"CHANNEL_STDOUT": "stdout", "CHANNEL_STDERR": "stderr"}


class _Output:
    """Both outputs of a program, read by one call from where it was.

    Whoever reads a stream takes the next message for both; what belongs to the other one
    waits for its reader in memory.
    """

    def __init__(self, client: Client, procedure: str, request: Mapping[str, Any]):
        self._client, self._procedure, self._request = client, procedure, dict(request)
        self._cond = threading.Condition()
        self._reading = False
        self._waiting: Dict[str, List[bytes]] = {"stdout": [], "stderr": []}
        self._offsets = {"stdout": 0, "stderr": 0}
        self._messages: Optional[Iterator[Dict[str, Any]]] = None
        self.dropped = {"stdout": 0, "stderr": 0}
        self.ended = False
        self.exit: Optional[Dict[str, Any]] = None

    def take(self, name: Optional[str]) -> bytes:
        """The next bytes of a stream, b"" at its end. Without a name: all is read."""
        while True:
            with self._cond:
                while self._reading and not (name and self._waiting[name]):
                    self._cond.wait()
                if name and self._waiting[name]:
                    return self._waiting[name].pop(0)
                if self.ended:
                    return b""
                self._reading = True
            message: Dict[str, Any] = {}
            try:
                message = self._client.patiently(self._next)
            finally:
                with self._cond:
                    self._reading = False
                    self._keep(message)
                    self._cond.notify_all()

    def _next(self) -> Dict[str, Any]:
        try:
            if self._messages is None:
                offsets = {n + "Offset": str(o) for n, o in self._offsets.items()}
                self._messages = self._client.stream(self._procedure, {**self._request, **offsets, "follow": True})
            return next(self._messages, {"end": True})
        except BaseException:
            self._messages = None  # begin anew, from where it was
            raise

    def _keep(self, message: Mapping[str, Any]) -> None:
        if "exit" in message:
            self.exit = message["exit"]
        if "exit" in message or "end" in message:
            self.ended = True
            return
        output = message.get("output", message)
        name = _CHANNELS.get(output.get("channel", ""))
        if name is None:
            return
        data = base64.b64decode(output.get("data", ""))
        offset = int(output.get("offset", 0))
        if offset > self._offsets[name]:
            self.dropped[name] += offset - self._offsets[name]
        data = data[max(0, self._offsets[name] - offset):]
        self._offsets[name] = max(self._offsets[name], offset + len(data))
        if data:
            self._waiting[name].append(data)


class StreamReader:
    """An output of a program: str if it was asked for as text, else bytes.

    Iterating gives lines as text, and whatever has come as bytes.
    """

    def __init__(self, output: _Output, name: str, text: bool):
        self._output, self._name, self._text = output, name, text
        self._rest = b""

    @property
    def dropped(self) -> int:
        """How many bytes brigd dropped before anybody read them."""
        return self._output.dropped[self._name]

    def read(self) -> Any:
        """All that is left, once the program has ended."""
        parts = [self._rest]
        self._rest = b""
        while True:
            data = self._output.take(self._name)
            if not data:
                return self._made(b"".join(parts))
            parts.append(data)

    def readline(self) -> Any:
        """The next line, with its end; empty at the end of the stream."""
        while b"\n" not in self._rest:
            data = self._output.take(self._name)
            if not data:
                line, self._rest = self._rest, b""
                return self._made(line)
            self._rest += data
        line, newline, self._rest = self._rest.partition(b"\n")
        return self._made(line + newline)

    def __iter__(self) -> "StreamReader":
        return self

    def __next__(self) -> Any:
        if self._text:
            item = self.readline()
        else:
            item, self._rest = self._rest or self._output.take(self._name), b""
        if not item:
            raise StopIteration
        return item

    def _made(self, data: bytes) -> Any:
        return data.decode("utf-8", "replace") if self._text else data


class StreamWriter:
    """A program's stdin. What is written is sent by drain, and then kept by the node."""

    def __init__(self, client: Client, procedure: str, request: Mapping[str, Any]):
        self._client, self._procedure, self._request = client, procedure, dict(request)
        self._buffer = bytearray()
        self._offset = 0
        self._eof = self._done = False

    def write(self, data: Union[str, bytes, bytearray, memoryview]) -> None:
        """Puts data into the buffer."""
        if self._eof:
            raise ValueError("stdin was ended: nothing can follow")
        self._buffer += data.encode() if isinstance(data, str) else data

    def write_eof(self) -> None:
        """Ends stdin after what was written, with the next drain."""
        self._eof = True

    def drain(self) -> None:
        """Sends what was written and returns once the node keeps it."""
        while self._buffer or (self._eof and not self._done):
            part = bytes(self._buffer[:CHUNK])
            last = self._eof and len(part) == len(self._buffer)
            answer = self._client.again(self._procedure, {
                **self._request, "offset": str(self._offset), "data": base64.b64encode(part).decode(), "eof": last,
            })
            kept = int(answer.get("offset", 0))
            if not self._offset <= kept <= self._offset + len(part):
                raise Internal("brigd keeps %d bytes of stdin, and %d were sent" % (kept, self._offset + len(part)))
            self._done = last and kept == self._offset + len(part)
            del self._buffer[:kept - self._offset]
            self._offset = kept

    def close(self) -> None:
        """write_eof and drain."""
        self.write_eof()
        self.drain()


class ContainerProcess:
    """A program that runs in a sandbox beside its own, or ran."""

    def __init__(self, client: Client, sandbox: str, exec_id: str, text: bool):
        self._client = client
        self._request = {"sandbox": sandbox, "execId": exec_id}
        self._output = _Output(client, "Exec/Read", self._request)
        self._exit: Optional[Dict[str, Any]] = None
        self.exec_id = exec_id
        self.stdout = StreamReader(self._output, "stdout", text)
        self.stderr = StreamReader(self._output, "stderr", text)
        self.stdin = StreamWriter(client, "Exec/Write", self._request)

    @property
    def returncode(self) -> Optional[int]:
        """The exit code once it is known, 128 + n for a signal, 124 for the timeout."""
        end = self._exit or self._output.exit
        return None if end is None else int(end.get("code", 0))

    @property
    def reason(self) -> Optional[str]:
        """Why it ended, such as exited, signal or exec_timeout."""
        return _reason(self._exit or self._output.exit)

    def wait(self) -> int:
        """Returns the exit code once the program has ended.

        What it writes meanwhile is kept for the readers, in memory.
        """
        while not self._output.ended:
            self._output.take(None)
        if self.returncode is None:
            self._exit = self._client.again("Exec/Wait", self._request)["exit"]
        code = self.returncode
        assert code is not None
        return code

    def poll(self) -> Optional[int]:
        """The exit code, or None while the program runs."""
        if self.returncode is None:
            try:
                self._exit = self._client.call("Exec/Wait", self._request, timeout=0.1)["exit"]
            except (DeadlineExceeded, Canceled):
                return None
        return self.returncode

    def signal(self, number: int) -> None:
        """Sends a signal; a program that has ended does not get it."""
        self._client.again("Exec/Signal", {**self._request, "signal": int(number)})

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.signal(9)


def _reason(end: Optional[Mapping[str, Any]]) -> Optional[str]:
    return None if end is None else str(end.get("reason", "")).replace("REASON_", "", 1).lower()


# --- what there is ----------------------------------------------------------


@dataclass(frozen=True)
class Tunnel:
    """A port of a sandbox, reached from outside."""

    sandbox_port: int
    kind: str  # tls, h2 or tcp
    host: str
    port: int
    url: str

    @property
    def tls_socket(self) -> Tuple[str, int]:
        """Where to connect with TLS."""
        if self.kind == "tcp":
            raise ValueError("port %d is not encrypted: use tcp_socket" % self.sandbox_port)
        return self.host, self.port

    @property
    def tcp_socket(self) -> Tuple[str, int]:
        """Where to connect without."""
        if self.kind != "tcp":
            raise ValueError("port %d is encrypted: use tls_socket" % self.sandbox_port)
        return self.host, self.port


@dataclass(frozen=True)
class FileInfo:
    """What a sandbox says of a file."""

    name: str
    type: str  # regular, directory, symlink or other
    size: int
    mode: int  # 0..0o7777
    modified_at: Optional[datetime.datetime]
    uid: int
    gid: int
    target: str  # what a link says

    @property
    def is_dir(self) -> bool:
        """It is a directory."""
        return self.type == "directory"


def _file(m: Mapping[str, Any]) -> FileInfo:
    return FileInfo(
        name=m.get("name", ""), type=m.get("type", "").replace("FILE_TYPE_", "", 1).lower(), size=int(m.get("size", 0)),
        mode=int(m.get("mode", 0)), modified_at=_time(m.get("modifiedAt")), uid=int(m.get("uid", 0)),
        gid=int(m.get("gid", 0)), target=m.get("target", ""),
    )


@dataclass(frozen=True)
class Image:
    """An image of the node's, which Sandbox.create takes."""

    name: str
    digest: str = ""
    size: int = 0  # compressed
    created_at: Optional[datetime.datetime] = field(default=None, compare=False)


_KINDS = {"TUNNEL_KIND_TLS": "tls", "TUNNEL_KIND_H2": "h2", "TUNNEL_KIND_TCP": "tcp"}


def _limit(value: Any) -> Tuple[Any, Any]:
    """A limit, or a pair of what is wished for and the limit."""
    if isinstance(value, (tuple, list)):
        wish, limit = value
        return wish, limit
    return None, value


def _gpu(value: Union[None, int, str, Sequence[str]]) -> Optional[Dict[str, Any]]:
    """How many GPUs, or which."""
    if value is None:
        return None
    if isinstance(value, int):
        return {"count": value}
    return {"devices": [value] if isinstance(value, str) else list(value)}


def _network(block_network: bool, cidrs: Optional[Sequence[str]], domains: Optional[Sequence[str]],
             inbound: Optional[Sequence[str]]) -> Dict[str, Any]:
    return _present(
        blockNetwork=block_network or None,
        cidrAllowlist=None if cidrs is None else {"cidrs": list(cidrs)},
        domainAllowlist=None if domains is None else {"domains": list(domains)},
        inboundCidrAllowlist=None if inbound is None else {"cidrs": list(inbound)},
    )


class Sandbox:
    """A sandbox of the node's. As a context manager it is removed in the end."""

    def __init__(self, client: Client, sandbox_id: str, text: bool = True, name: str = ""):
        self._client = client
        self._output = _Output(client, "Sandboxes/ReadOutput", {"sandbox": sandbox_id})
        self._exit: Optional[Dict[str, Any]] = None
        self.object_id = sandbox_id
        self.name = name
        self.stdout = StreamReader(self._output, "stdout", text)
        self.stderr = StreamReader(self._output, "stderr", text)
        self.stdin = StreamWriter(client, "Sandboxes/WriteInput", {"sandbox": sandbox_id})

    @classmethod
    def create(
        cls,
        image: Union[str, Image],
        *argv: str,
        name: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        idle_timeout: Optional[float] = None,
        cpu: Union[None, float, Tuple[float, float]] = None,
        memory: Union[None, int, Tuple[int, int]] = None,
        pids: Optional[int] = None,
        disk: Optional[int] = None,
        gpu: Union[None, int, str, Sequence[str]] = None,
        env: Optional[Mapping[str, str]] = None,
        secrets: Optional[Mapping[str, str]] = None,
        workdir: Optional[str] = None,
        block_network: bool = False,
        cidr_allowlist: Optional[Sequence[str]] = None,
        domain_allowlist: Optional[Sequence[str]] = None,
        inbound_cidr_allowlist: Optional[Sequence[str]] = None,
        encrypted_ports: Sequence[int] = (),
        h2_ports: Sequence[int] = (),
        unencrypted_ports: Sequence[int] = (),
        stdin: bool = False,
        text: bool = True,
        client: Optional[Client] = None,
        socket: Optional[str] = None,
    ) -> "Sandbox":
        """Makes a sandbox and returns once its program runs and its tunnels listen.

        Without argv it idles until its timeout, for execs. cpu is cores, memory and disk
        are MiB; a pair is what is wished for, and the limit. What is not given is the
        node's default. gpu is how many, or which: an index as text, a UUID, a CDI name, or
        a sequence of these. An empty cidr_allowlist means no outbound at all, while tunnels
        work; block_network means no network.
        """
        client = _client(client, socket)
        cpu_request, cpu_limit = _limit(cpu)
        memory_request, memory_limit = _limit(memory)
        kinds = (("TLS", encrypted_ports), ("H2", h2_ports), ("TCP", unencrypted_ports))
        request = _present(
            requestId=uuid.uuid4().hex,
            image=image.name if isinstance(image, Image) else image,
            argv=list(argv) or None,
            name=name,
            tags=dict(tags) if tags else None,
            timeout=None if timeout is None else _duration(timeout),
            idleTimeout=None if idle_timeout is None else _duration(idle_timeout),
            resources=_present(
                cpu=cpu_limit, cpuRequest=cpu_request,
                memoryMib=memory_limit, memoryRequestMib=memory_request, pids=pids, diskMib=disk,
            ) or None,
            gpu=_gpu(gpu),
            env=dict(env) if env else None,
            secrets=dict(secrets) if secrets else None,
            workdir=workdir,
            network=_network(block_network, cidr_allowlist, domain_allowlist, inbound_cidr_allowlist) or None,
            ports=[{"sandboxPort": p, "kind": "TUNNEL_KIND_" + kind} for kind, ports in kinds for p in ports] or None,
            stdin=stdin or None,
        )
        made = client.again("Sandboxes/Create", request)["sandbox"]
        return cls(client, made["id"], text, made.get("name", ""))

    @classmethod
    def from_id(cls, sandbox_id: str, *, text: bool = True, client: Optional[Client] = None,
                socket: Optional[str] = None) -> "Sandbox":
        """The sandbox of that id, also one that has ended."""
        client = _client(client, socket)
        found = client.again("Sandboxes/Get", {"sandbox": sandbox_id})["sandbox"]
        return cls(client, found["id"], text, found.get("name", ""))

    @classmethod
    def from_name(cls, name: str, *, text: bool = True, client: Optional[Client] = None,
                  socket: Optional[str] = None) -> "Sandbox":
        """The running sandbox of that name."""
        return cls.from_id(name, text=text, client=client, socket=socket)

    @classmethod
    def list(cls, *, tags: Optional[Mapping[str, str]] = None, all: bool = False, text: bool = True,
             client: Optional[Client] = None, socket: Optional[str] = None) -> Iterator["Sandbox"]:
        """The running sandboxes that have all these tags, oldest first; with all ended ones, too."""
        client = _client(client, socket)
        answer = client.again("Sandboxes/List", _present(tags=dict(tags) if tags else None, all=all or None))
        for found in answer.get("sandboxes", []):
            yield cls(client, found["id"], text, found.get("name", ""))

    def __repr__(self) -> str:
        return "Sandbox(%r)" % self.object_id

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def info(self) -> Dict[str, Any]:
        """What brigd knows of it, as the protocol's Sandbox in JSON."""
        return self._call("Sandboxes/Get")["sandbox"]

    @property
    def tags(self) -> Dict[str, str]:
        """Those that it was made with."""
        return dict(self.info().get("tags", {}))

    # programs

    def exec(
        self,
        *argv: str,
        timeout: Optional[float] = None,
        workdir: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        text: bool = True,
        exec_id: Optional[str] = None,
    ) -> ContainerProcess:
        """Starts a program and returns once it runs. It goes on if this client ends.

        Its output must be read, or waited for: a program whose output nobody takes stands
        still when 16 MiB of it wait, unless the node's configuration says otherwise. With
        an exec_id that was used before, the same program is returned.
        """
        exec_id = exec_id or uuid.uuid4().hex
        spec = _present(
            sandbox=self.object_id, argv=list(argv), env=dict(env) if env else None, workdir=workdir,
            timeout=None if timeout is None else _duration(timeout),
        )
        self._client.again("Exec/Start", {"exec": spec, "stdin": True, "execId": exec_id, "overflow": "OVERFLOW_BLOCK"})
        return ContainerProcess(self._client, self.object_id, exec_id, text)

    # its end

    @property
    def returncode(self) -> Optional[int]:
        """The exit code once wait, poll or terminate has seen it."""
        return None if self._exit is None else int(self._exit.get("code", 0))

    @property
    def reason(self) -> Optional[str]:
        """Why it ended, such as exited, timeout, idle_timeout, oom or terminated."""
        return _reason(self._exit)

    def wait(self) -> int:
        """Returns the exit code once the sandbox has ended."""
        self._exit = self._call("Sandboxes/Wait")["exit"]
        return int(self._exit.get("code", 0))

    def poll(self) -> Optional[int]:
        """The exit code, or None while the sandbox runs."""
        self._exit = self.info().get("exit")
        return self.returncode

    def terminate(self, grace: Optional[float] = None) -> int:
        """Ends it, by SIGKILL or, with grace, first by SIGTERM. Returns the exit code."""
        self._exit = self._call("Sandboxes/Terminate", **_present(grace=None if grace is None else _duration(grace)))["exit"]
        return int(self._exit.get("code", 0))

    def remove(self) -> None:
        """Ends it if it runs, and forgets it and its output."""
        try:
            self._call("Sandboxes/Remove", force=True)
        except NotFound:
            pass  # it was removed before

    # tunnels

    def tunnels(self) -> Dict[int, Tunnel]:
        """The open tunnels by the sandbox's ports."""
        found = (Tunnel(
            sandbox_port=int(m["sandboxPort"]), kind=_KINDS.get(m.get("kind", ""), "tls"), host=m.get("host", ""),
            port=int(m.get("port", 0)), url=m.get("url", ""),
        ) for m in self._call("Tunnels/List").get("tunnels", []))
        return {t.sandbox_port: t for t in found}

    def ca_path(self) -> str:
        """The file with the certificate that the tunnels are verified by."""
        return self._client.ca_path()

    def ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the tunnels and nothing else."""
        return self._client.ssl_context()

    # network policy

    def network_policy(self) -> Dict[str, Any]:
        """The policy in force, its generation and more, as the protocol has it in JSON."""
        return self._call("Sandboxes/GetNetworkPolicy")

    def set_network_policy(
        self,
        *,
        block_network: bool = False,
        cidr_allowlist: Optional[Sequence[str]] = None,
        domain_allowlist: Optional[Sequence[str]] = None,
        inbound_cidr_allowlist: Optional[Sequence[str]] = None,
        expected_generation: Optional[int] = None,
        lease: Optional[float] = None,
    ) -> int:
        """Replaces the policy as a whole, for good or for a lease, and returns its generation.

        It is in force then. Connections that it does not permit are terminated.
        """
        answer = self._client.call("Sandboxes/SetNetworkPolicy", _present(
            sandbox=self.object_id,
            network=_network(block_network, cidr_allowlist, domain_allowlist, inbound_cidr_allowlist),
            expectedGeneration=None if expected_generation is None else str(expected_generation),
            lease=None if lease is None else _duration(lease),
        ))
        return int(answer.get("generation", 0))

    def explain_network(self, host: str, port: int = 0, protocol: str = "tcp") -> Tuple[str, str]:
        """What becomes of a connection, allow, deny or unknown, and by which rule."""
        answer = self._call("Sandboxes/ExplainNetwork", host=host, port=port, protocol=protocol)
        return str(answer.get("verdict", "")).replace("VERDICT_", "", 1).lower(), str(answer.get("rule", ""))

    # its files

    def snapshot_filesystem(self, name: str) -> Image:
        """Makes an image of the root filesystem."""
        m = self._client.call("Sandboxes/Snapshot", {"sandbox": self.object_id, "name": name})["image"]
        return Image(m.get("name", ""), m.get("digest", ""), int(m.get("size", 0)), _time(m.get("createdAt")))

    def open(self, path: str, mode: str = "r") -> IO[Any]:
        """A file of the sandbox's, to read (r, rb) or to write anew (w, wb).

        What is written appears as a whole when the file is closed; if the block of a with
        statement fails, it does not.
        """
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError("mode %r: use r, rb, w or wb" % mode)
        raw: Any = _Download(self._download(path)) if mode[0] == "r" else _Upload(self, path)
        if mode[0] == "r":
            raw = io.BufferedReader(raw)
        return raw if mode.endswith("b") else _Text(raw, encoding="utf-8")

    def read_file(self, path: str) -> bytes:
        """A file's whole content."""
        return b"".join(self._download(path))

    def write_file(self, path: str, data: Union[str, bytes, IO[bytes], Iterable[bytes]], mode: int = 0) -> int:
        """Makes or replaces a file, whole or not at all, and returns its size.

        A file that is replaced keeps its mode.
        """
        def messages() -> Iterator[Dict[str, Any]]:
            yield {"start": _present(sandbox=self.object_id, path=path, mode=mode or None)}
            for part in _parts(data):
                yield {"data": base64.b64encode(part).decode()}
        return int(self._client.send("Files/Write", messages()).get("size", 0))

    def ls(self, path: str = ".") -> "List[FileInfo]":
        """What is in a directory, by name; the first 10,000."""
        return [_file(m) for m in self._call("Files/List", path=path).get("files", [])]

    def stat(self, path: str) -> FileInfo:
        """What is at a path; a link is not followed."""
        return _file(self._call("Files/Stat", path=path)["file"])

    def mkdir(self, path: str, parents: bool = False, mode: int = 0) -> None:
        """Makes a directory; with parents also what is missing above it."""
        self._client.call("Files/MakeDirectory", _present(
            sandbox=self.object_id, path=path, parents=parents or None, mode=mode or None))

    def rm(self, path: str, recursive: bool = False) -> None:
        """Deletes a file, a link or a directory; with recursive all that is in it."""
        self._client.call("Files/Remove", _present(sandbox=self.object_id, path=path, recursive=recursive or None))

    def _call(self, procedure: str, **fields: Any) -> Dict[str, Any]:
        return self._client.again(procedure, {"sandbox": self.object_id, **fields})

    def _download(self, path: str) -> Iterator[bytes]:
        messages = self._client.stream("Files/Read", {"sandbox": self.object_id, "path": path})
        for m in messages:
            if m.get("data"):
                yield base64.b64decode(m["data"])


def _parts(data: Any) -> Iterator[bytes]:
    if isinstance(data, str):
        data = data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        data = io.BytesIO(data)
    if hasattr(data, "read"):
        read = data.read
        data = iter(lambda: read(CHUNK), b"")
    for part in data:
        for at in range(0, len(part), CHUNK):
            yield bytes(part[at:at + CHUNK])


class _Download(io.RawIOBase):
    """A file that is being read."""

    def __init__(self, parts: Iterator[bytes]):
        self._parts, self._rest = parts, b""
        self._rest = next(parts, b"")  # what cannot be read says so now

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._parts, b"")
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n

    def close(self) -> None:
        if not self.closed:
            self._parts.close()  # type: ignore[attr-defined]
        super().close()


class _Upload(io.BufferedIOBase):
    """A file that is sent when it is closed."""

    def __init__(self, sandbox: Sandbox, path: str):
        self._sandbox, self._path = sandbox, path
        self._kept = tempfile.SpooledTemporaryFile(max_size=8 << 20)
        self.failed = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._kept.write(data)

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self.failed:
                self._kept.seek(0)
                self._sandbox.write_file(self._path, self._kept)
        finally:
            self._kept.close()
            super().close()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.failed = kind is not None
        self.close()


class _Text(io.TextIOWrapper):
    """Text over one of the two."""

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None and isinstance(self.buffer, _Upload):
            self.buffer.failed = True
        self.close()
