"""Programs in a sandbox, with their streams."""

import sys
import threading

import brig

with brig.Sandbox.create(sys.argv[1], timeout=120, env={"A": "sandbox"}) as sb:
    p = sb.exec("sh", "-c", "echo $A $B; pwd; echo err >&2; exit 7", env={"B": "exec"}, workdir="/tmp")
    assert p.stdout.read() == "sandbox exec\n/tmp\n" and p.stderr.read() == "err\n"
    assert p.wait() == 7 == p.returncode == p.poll() and p.reason == "exited"

    p = sb.exec("sort")
    assert p.poll() is None and p.returncode is None
    p.stdin.write("b\n")
    p.stdin.write(b"a\n")
    p.stdin.drain()
    p.stdin.write_eof()
    p.stdin.drain()
    assert list(p.stdout) == ["a\n", "b\n"] and p.wait() == 0

    # More than any pipe holds, both ways at once.
    data = bytes(range(256)) * 16384
    p = sb.exec("cat", text=False)
    p.stdin.write(data)
    sender = threading.Thread(target=p.stdin.close)
    sender.start()
    assert p.stdout.read() == data
    sender.join()
    assert p.wait() == 0

    p = sb.exec("sleep", "60", timeout=1)
    assert p.wait() == 124 and p.reason == "exec_timeout"
    p = sb.exec("sleep", "60")
    p.signal(15)
    assert p.wait() == 143 and p.reason == "signal"

    # The same key is the same program.
    one = sb.exec("sh", "-c", "echo $$", exec_id="key")
    two = sb.exec("sh", "-c", "echo $$", exec_id="key")
    assert one.stdout.read() == two.stdout.read() != ""
    try:
        sb.exec("true", exec_id="key")
    except brig.AlreadyExists:
        pass
    else:
        raise AssertionError("a key was used for two programs")
