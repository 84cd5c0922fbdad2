#!/usr/bin/env bash
# Makes dist/brig-<version>-linux-amd64.tar.gz, from which install.sh --from
# installs on a node without Go or network, and its checksum beside it. Called
# by make dist after everything is built.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?usage: deploy/dist.sh VERSION}
name=brig-$version-linux-amd64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name

for program in brig brigd containerd-shim-brig-v1 guest/brig-idle guest/brig-files brig-probe brig-cni nvidia-cdi-hook; do
	install -D -m 0755 "bin/$program" "$root/bin/$program"
done
for program in runsc gvisor-bin/gvisor_sentry containerd ctr brig-nvcdi; do
	install -D -m 0755 "bin/deps/$program" "$root/bin/deps/$program"
done
install -D -m 0755 install.sh "$root/install.sh"
mkdir "$root/deploy"
cp -R deploy/config.toml deploy/gpu.toml deploy/brig.conflist deploy/containerd.toml deploy/containerd-system.toml \
	deploy/systemd deploy/kubernetes deploy/network deploy/prometheus deploy/grafana "$root/deploy/"
cp LICENSE "$root/"
printf '%s\n' "$version" >"$root/VERSION"
go run -ldflags "-X brig/internal/version.Version=$version" ./nodeagent/brig/manual "$root/man"
go run ./tests/image -busybox "$(command -v busybox)" -o "$root/check-image.tar"

(cd "$root" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$work/SHA256SUMS"
mv "$work/SHA256SUMS" "$root/"
mkdir -p dist
# The same binaries give the same archive, byte for byte.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
	--directory "$work" "$name" | gzip -n >"dist/$name.tar.gz"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
echo "dist/$name.tar.gz"
