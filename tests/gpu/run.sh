#!/bin/sh
# Runs brig's tests of GPUs on this machine, as root, from the kit beside this script. It
# needs sh, tar and xz (or python3), and NVIDIA's driver; it installs nothing, unpacks into
# a folder of its own and removes that again.
#
#   run.sh [FLAG...]       flags of the test binary, as -test.run=TestVectorAdd
#
# The status is 0 if everything passed, 1 if something failed, 2 if nothing could be tried.
set -u

refuse() {
	echo "run.sh: $*" >&2
	exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || refuse "this needs root"
[ "$(uname -m)" = x86_64 ] || refuse "the kit is for x86_64, and this is $(uname -m)"
[ -e "$here/kit.tar.xz" ] || refuse "$here/kit.tar.xz is missing: make gpu-kit makes it"

# Short: the paths of sockets are bounded. Not in a folder that the machine mounts noexec.
work=$(mktemp -d /tmp/brig-gpu.XXXXXX) || refuse "cannot make a folder in /tmp"
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM HUP
if command -v xz >/dev/null; then
	xz -dc "$here/kit.tar.xz"
else
	python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$here/kit.tar.xz"
fi | tar -xf - -C "$work" || refuse "cannot unpack the kit: is there room in /tmp, and xz or python3?"
cd "$work" || exit 2

echo "# $(uname -sr), $(nproc) cores, $([ -e /dev/kvm ] && echo /dev/kvm || echo no /dev/kvm)"
head -n 1 /proc/driver/nvidia/version 2>/dev/null

# The folder of specifications is the machine's; what is wrong there is a warning.
printf '[runsc]\npath = "%s"\n[gpu]\ngenerator = "%s"\n' "$work/bin/deps/runsc" "$work/bin/deps/brig-nvcdi" >doctor.toml
bin/brig doctor gpu --config doctor.toml || refuse "there is nothing to try: the lines above say why"

# A command on a lent machine may last ten minutes.
BRIG_REQUIRE=root,runsc,gpu ./gpu.test -test.v -test.timeout=9m "$@"
