#!/usr/bin/env bash
# Makes dist/gpu-kit: run.sh and one archive of everything that it runs on a machine with a
# GPU, which needs no Go, no network and no systemd. Called by make gpu-kit after everything
# is built; without an archive, `kit.sh parts` makes only what the suite needs in bin/gpu.
set -euo pipefail
cd "$(dirname "$0")/../.."

mkdir -p bin/gpu/lib
gcc -std=c11 -O2 -Wall -Wextra -Werror -s -o bin/gpu/cuda-check tests/gpu/cuda/cuda-check.c
go run ./tests/gpu/image -program bin/gpu/cuda-check -o bin/gpu/image.tar
# The C library of the image, with which cuda-check runs outside, too.
for library in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1; do
	tar -xOf .cache/image/c-1.tar "lib/x86_64-linux-gnu/$library" >"bin/gpu/lib/$library"
done
chmod 0755 bin/gpu/lib/*
# brigd looks for it beside brig-nvcdi, where the installer puts it.
ln -sfn ../nvidia-cdi-hook bin/deps/nvidia-cdi-hook
[ "${1:-}" != parts ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in brig brigd brig-cni brig-probe containerd-shim-brig-v1 guest/brig-idle guest/brig-files \
	deps/containerd deps/ctr deps/runsc deps/gvisor-bin/gvisor_sentry deps/brig-nvcdi deps/nvidia-cdi-hook; do
	if [ ! -e "bin/$program" ]; then
		echo "kit.sh: bin/$program is missing: run make build deps" >&2
		exit 1
	fi
	install -D -m 0755 "bin/$program" "$work/bin/$program"
done
cp -R bin/gpu "$work/bin/"
# The suite finds its folder by the go.mod in it, as in the repository.
cp go.mod "$work/"
CGO_ENABLED=0 go test -c -trimpath -ldflags "-s -w" -o "$work/gpu.test" ./tests/gpu

rm -rf dist/gpu-kit
mkdir -p dist/gpu-kit
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --directory "$work" . |
	xz "${XZ:--9}" -T1 >dist/gpu-kit/kit.tar.xz
install -m 0755 tests/gpu/run.sh dist/gpu-kit/run.sh
size=$(stat -c %s dist/gpu-kit/kit.tar.xz)
echo "dist/gpu-kit: $((size / 1024)) KiB"
if [ "$size" -gt $((64 << 20)) ]; then
	echo "kit.sh: that is more than 64 MiB" >&2
	exit 1
fi
