"""A program's streams, over two deaths of brigd."""

import hashlib
import os
import sys
import threading

import brig


def kill():
    print("kill", flush=True)
    assert sys.stdin.readline() == "killed\n"


sb = brig.Sandbox.create(sys.argv[1], timeout=120)
data = os.urandom(24 << 20)
p = sb.exec("cat", text=False)


def send():
    for at in range(0, len(data), 1 << 20):
        p.stdin.write(data[at:at + (1 << 20)])
        p.stdin.drain()
    p.stdin.close()


sender = threading.Thread(target=send)
sender.start()
got, size, kills = hashlib.sha256(), 0, 0
for part in p.stdout:
    got.update(part)
    size += len(part)
    if kills == 0 and size > 4 << 20 or kills == 1 and size > 14 << 20:
        kills += 1
        kill()
sender.join()
assert size == len(data), (size, len(data))
assert got.digest() == hashlib.sha256(data).digest(), "another content"
assert p.wait() == 0 and p.stdout.dropped == 0 and kills == 2
assert sb.exec("echo", "alive").stdout.read() == "alive\n"
sb.remove()
