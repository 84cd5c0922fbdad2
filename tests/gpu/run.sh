#!/usr/bin/env bash
# Runs brig's tests of GPUs on this machine, as root, from the kit beside this script. It
# needs bash, tar, xz (or python3) and NVIDIA's driver; it installs nothing, unpacks into a
# folder of its own and removes that again.
#
#   run.sh [FLAG...]       flags of the test binary, as -test.run=TestVectorAdd
#
# The status is 0 if everything passed, 1 if something failed, 2 if nothing could be tried.
set -euo pipefail

refuse() {
	echo "run.sh: $*" >&2
	exit 2
}

unpack() {
	if command -v xz >/dev/null; then
		xz -dc "$1"
	else
		python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
	fi | tar -xf - -C "$2"
}

# clear ends what a test that was cut short has left: every process of the kit's programs.
clear() {
	for process in /proc/[0-9]*; do
		case $(readlink "$process/exe" || true) in
		"$work"/*) kill -KILL "${process#/proc/}" || true ;;
		esac
	done
	rm -rf "$work"
} 2>/dev/null

here=$(cd "$(dirname "$0")" && pwd)
kit=$here/kit.tar.xz
[ "$(id -u)" = 0 ] || refuse "this needs root"
[ "$(uname -m)" = x86_64 ] || refuse "the kit is for x86_64, and this is $(uname -m)"
[ -e "$kit" ] || refuse "$kit is missing: make gpu-kit makes it"

# Short: the paths of sockets are bounded.
work=$(mktemp -d /tmp/brig-gpu.XXXXXX)
trap clear EXIT
trap 'exit 2' INT TERM HUP
unpack "$kit" "$work" || refuse "cannot unpack the kit: is there room in /tmp, and xz or python3?"
cd "$work"

kvm=$([ -e /dev/kvm ] && echo /dev/kvm || echo "no /dev/kvm")
echo "# $(uname -sr), $(nproc) cores, $kvm"
if [ -e /proc/driver/nvidia/version ]; then
	head -n 1 /proc/driver/nvidia/version
fi

printf '[runsc]\npath = "%s"\n[gpu]\ngenerator = "%s"\n' "$work/bin/deps/runsc" "$work/bin/deps/brig-nvcdi" >doctor.toml
bin/brig doctor gpu --config doctor.toml || refuse "there is nothing to try here: the lines above say why"

# Where a command is given ten minutes, the last lines are still seen.
BRIG_REQUIRE=root,runsc,gpu ./gpu.test -test.v -test.timeout=9m "$@" || exit 1
