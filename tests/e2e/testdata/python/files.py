"""Files of a sandbox."""

import hashlib
import os
import sys

import brig

with brig.Sandbox.create(sys.argv[1], timeout=120) as sb:
    data = os.urandom(3_000_000)
    assert sb.write_file("/tmp/data", data, mode=0o640) == len(data)
    assert hashlib.sha256(sb.read_file("/tmp/data")).digest() == hashlib.sha256(data).digest()
    info = sb.stat("/tmp/data")
    assert (info.name, info.type, info.size, info.mode) == ("data", "regular", len(data), 0o640), info
    assert info.modified_at.timestamp() > 1e9

    sb.mkdir("/tmp/a/b", parents=True)
    sb.write_file("/tmp/a/b/ünï\n", "text")
    sb.write_file("/tmp/a/parts", iter([b"one", b"two"]))
    assert [(f.name, f.is_dir) for f in sb.ls("/tmp/a")] == [("b", True), ("parts", False)]
    assert sb.read_file("/tmp/a/b/ünï\n") == b"text" and sb.read_file("/tmp/a/parts") == b"onetwo"

    with sb.open("/tmp/lines", "w") as f:
        for i in range(1000):
            print(i, file=f)
    with sb.open("/tmp/lines") as f:
        assert [int(line) for line in f] == list(range(1000))
    with sb.open("/tmp/data", "rb") as f:
        assert f.read(10) == data[:10] and f.read() == data[10:]
    try:
        with sb.open("/tmp/half", "wb") as f:
            f.write(b"half")
            raise KeyError
    except KeyError:
        pass

    sb.rm("/tmp/a", recursive=True)
    for wrong, error in (
        (lambda: sb.read_file("/tmp/half"), brig.NotFound),
        (lambda: sb.open("/tmp/half"), brig.NotFound),
        (lambda: sb.stat("/tmp/a"), brig.NotFound),
        (lambda: sb.read_file("/tmp"), brig.FailedPrecondition),
        (lambda: sb.write_file("/tmp", b""), brig.FailedPrecondition),
        (lambda: sb.write_file("/no/such/folder", b"x" * 5_000_000), brig.NotFound),
        (lambda: sb.mkdir("/tmp/data"), brig.AlreadyExists),
        (lambda: sb.open("/tmp/data", "a"), ValueError),
    ):
        try:
            wrong()
        except error as e:
            assert str(e)
        else:
            raise AssertionError("no %s" % error.__name__)
    assert [f.name for f in sb.ls("/tmp")] == ["data", "lines"]
