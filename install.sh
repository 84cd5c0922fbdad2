#!/usr/bin/env bash
# Installs brig on this machine, upgrades it, or removes it. See --help.
#
# One script for a clone (it builds) and for an archive of make dist (it does
# not). Every change to the machine goes through do_ or put, so that --dry-run
# shows exactly what would be done. Nothing foreign is edited: all it writes are
# files of its own, and --uninstall removes every one.
set -euo pipefail

readonly bin=/usr/local/bin
readonly libexec=/usr/local/libexec/brig
readonly share=/usr/local/share
readonly etc=/etc/brig
readonly state=/var/lib/brig
readonly run=/run/brig
readonly log=/var/log/brig
readonly units=/etc/systemd/system
readonly cni_conf=/etc/cni/net.d/10-brig.conflist
readonly cni_plugin=/opt/cni/bin/brig-cni
readonly cdi=/var/run/cdi/brig-nvidia.json
readonly networkd=/etc/systemd/network/10-brig.network
readonly networkmanager=/etc/NetworkManager/conf.d/brig.conf

action=install
archive=
dry=
force=
cni_default=
check=yes
src=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=
number=0

usage() {
	cat <<'END'
usage: install.sh [--from FILE] [--cni-default] [--no-check] [--dry-run]
       install.sh --uninstall [--force] [--dry-run]

Installs brig, or upgrades it: running sandboxes go on. As root.

  --from FILE     install from an archive made by make dist (FILE.sha256 beside it):
                  needs neither Go nor a network, but the commands nft and ip
  --cni-default   make brig the default CNI network of this machine, too: its conflist
                  goes to /etc/cni/net.d and its plugin to /opt/cni/bin
  --no-check      do not run a sandbox at the end
  --uninstall     remove brig and all that it holds; refused while sandboxes live
  --force         with --uninstall: end the sandboxes first
  --dry-run       print every step and change nothing

Programs go to /usr/local/bin and /usr/local/libexec/brig, manual pages and completions
below /usr/local/share, a dashboard and alert rules to /usr/local/share/brig, the
configuration to /etc/brig, state to /var/lib/brig and /run/brig. System packages that were missing
and Go's caches stay after --uninstall.
END
}

die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

step() {
	number=$((number + 1))
	printf '[%d] %s\n' "$number" "$*"
}

note() { printf '    %s\n' "$*"; }

# do_ runs a command that changes the machine, or prints it.
do_() {
	if [ -n "$dry" ]; then
		printf '    + %s\n' "${*@Q}"
	else
		"$@"
	fi
}

# put replaces a file in one move, so that whoever runs the old one goes on.
put() { # MODE FROM TO
	if [ -n "$dry" ]; then
		printf '    + install -m %s %s\n' "$1" "$3"
		return
	fi
	install -D -m "$1" "$2" "$3.new"
	mv -fT "$3.new" "$3"
}

# put_output replaces a file by what a command prints.
put_output() { # TO COMMAND...
	local to=$1
	shift
	if [ -n "$dry" ]; then
		printf '    + %s >%s\n' "${*@Q}" "$to"
		return
	fi
	mkdir -p "${to%/*}"
	(umask 022 && "$@" >"$to.new")
	mv -fT "$to.new" "$to"
}

has_systemd() { [ -d /run/systemd/system ]; }

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--from)
			[ $# -ge 2 ] || die "--from needs a file; see --help"
			archive=$2
			shift
			;;
		--cni-default) cni_default=yes ;;
		--no-check) check= ;;
		--uninstall) action=uninstall ;;
		--force) force=yes ;;
		--dry-run) dry=yes ;;
		-h | --help)
			usage
			exit 0
			;;
		*) die "unknown argument $1; see --help" ;;
		esac
		shift
	done
	if [ "$action" = uninstall ]; then
		[ -z "$archive$cni_default" ] || die "--uninstall takes no --from and no --cni-default"
	elif [ -n "$force" ]; then
		die "--force belongs to --uninstall"
	fi
}

# --- what is needed ---------------------------------------------------------

machine() {
	step "this machine"
	[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "brig runs on Linux on x86_64; this is $(uname -sm)"
	[ "$(id -u)" = 0 ] || [ -n "$dry" ] || die "needs root: run it with sudo"
	note "$(uname -sr), $(has_systemd && echo systemd || echo "no systemd: brigd is started directly")"
}

# prebuilt tells whether the binaries come ready with this script.
prebuilt() { [ -n "$archive" ] || { [ -f "$src/SHA256SUMS" ] && [ ! -f "$src/go.mod" ]; }; }

packages() {
	step "system packages"
	local wanted=(nftables iproute2) missing=() command package
	prebuilt || wanted+=(ca-certificates gcc libc6-dev make busybox-static)
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null || prebuilt; then
		for command in nft:nftables ip:iproute2 $(prebuilt || echo "gcc:gcc make:make busybox:busybox-static"); do
			package=${command#*:}
			command -v "${command%:*}" >/dev/null || missing+=("$package")
		done
		[ ${#missing[@]} = 0 ] || die "install these first: ${missing[*]}"
		note "everything is there"
		return
	fi
	for package in "${wanted[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	if [ ${#missing[@]} = 0 ]; then
		note "everything is there"
		return
	fi
	note "missing: ${missing[*]}"
	do_ apt-get update -qq
	do_ env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# --- where the binaries come from -------------------------------------------

build() {
	step "build brig, and runsc and containerd from pinned source"
	# sudo drops the PATH in which Go usually is.
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin
	command -v go >/dev/null || die "needs Go to build; install it from https://go.dev/dl, or use --from FILE"
	export HOME=${HOME:-/root}
	# The clone may belong to somebody whom git does not let root act for.
	export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
	note "with $(go version | cut -d' ' -f3); the first time takes some minutes"
	do_ make -C "$src" build deps man
	do_ mkdir -p "$src/.cache"
	do_ env -C "$src" go run ./tests/image -busybox "$(command -v busybox || echo /bin/busybox)" -o "$src/.cache/check-image.tar"
	do_ chown -R --reference="$src" "$src/bin" "$src/.cache" "$src/dist"
	image=$src/.cache/check-image.tar
	pages=$src/dist/man
}

unpack() {
	step "unpack and verify"
	if [ -n "$archive" ]; then
		[ -f "$archive" ] || die "no file $archive"
		[ -f "$archive.sha256" ] || die "no $archive.sha256 beside it; get both from where the archive is from"
		local want
		want=$(cut -d' ' -f1 "$archive.sha256")
		printf '%s  %s\n' "$want" "$archive" | sha256sum --check --status || die "$archive does not match its checksum; get it again"
		note "$archive: checksum is right"
		work=$(mktemp -d)
		tar --extract --gzip --no-same-owner --strip-components=1 --directory "$work" --file "$archive"
		src=$work
	fi
	(cd "$src" && sha256sum --check --quiet --strict SHA256SUMS) || die "the files in $src do not match their checksums"
	note "brig $(cat "$src/VERSION")"
	image=$src/check-image.tar
	pages=$src/man
}

# --- putting it there -------------------------------------------------------

programs() {
	step "programs"
	local program version=VERSION
	containerd_changed=
	cmp -s "$src/bin/deps/containerd" "$libexec/containerd" || containerd_changed=yes
	for program in brig brigd containerd-shim-brig-v1; do
		put 0755 "$src/bin/$program" "$bin/$program"
	done
	for program in brig-idle brig-files; do
		put 0755 "$src/bin/guest/$program" "$libexec/guest/$program"
	done
	put 0755 "$src/bin/brig-probe" "$libexec/brig-probe"
	put 0755 "$src/bin/brig-cni" "$libexec/cni/brig-cni"
	put 0755 "$src/bin/nvidia-cdi-hook" "$libexec/nvidia-cdi-hook"
	put 0755 "$src/bin/deps/containerd" "$libexec/containerd"
	put 0755 "$src/bin/deps/ctr" "$libexec/ctr"
	put 0755 "$src/bin/deps/brig-nvcdi" "$libexec/brig-nvcdi"
	put 0755 "$src/install.sh" "$libexec/install.sh"
	put 0644 "$image" "$libexec/check-image.tar"
	# A running sandbox needs the gVisor that it was started with: every
	# version has a folder, and a link says which is for new ones.
	[ ! -x "$src/bin/deps/runsc" ] || version=$("$src/bin/deps/runsc" --version | awk 'NR == 1 { print $NF }')
	put 0755 "$src/bin/deps/runsc" "$libexec/runsc-$version/runsc"
	put 0755 "$src/bin/deps/gvisor-bin/gvisor_sentry" "$libexec/runsc-$version/gvisor-bin/gvisor_sentry"
	do_ ln -sfnT "runsc-$version/runsc" "$libexec/runsc.new"
	do_ mv -fT "$libexec/runsc.new" "$libexec/runsc"
	old_runscs "$version"
}

# documents are what a shell, a reader and a monitoring system take from the node.
documents() {
	step "manual pages, completions, dashboard and alert rules"
	local page
	do_ rm -f "$share"/man/man1/brig.1 "$share"/man/man1/brig-*.1 # of commands that are no more
	if [ -n "$dry" ]; then
		note "+ install -m 0644 $pages/*.1 $share/man/man1/"
	else
		for page in "$pages"/*.1; do
			put 0644 "$page" "$share/man/man1/${page##*/}"
		done
	fi
	put_output "$share/bash-completion/completions/brig" "$bin/brig" completion bash
	put_output "$share/zsh/site-functions/_brig" "$bin/brig" completion zsh
	put_output "$share/fish/vendor_completions.d/brig.fish" "$bin/brig" completion fish
	put 0644 "$src/deploy/grafana/brig.json" "$share/brig/grafana/brig.json"
	put 0644 "$src/deploy/prometheus/brig.rules.yml" "$share/brig/prometheus/brig.rules.yml"
}

# old_runscs removes the gVisors that no process runs from.
old_runscs() { # CURRENT
	local folder
	for folder in "$libexec"/runsc-*/; do
		folder=${folder%/}
		if [ -d "$folder" ] && [ "$folder" != "$libexec/runsc-$1" ] && [ -z "$(users_of "$folder/")" ]; then
			do_ rm -rf "$folder"
		fi
	done
}

# users_of prints the ids of the processes whose program's path begins so.
users_of() { # PREFIX
	local link target
	for link in /proc/[0-9]*/exe; do
		target=$(readlink "$link" 2>/dev/null) || continue
		case $target in
		"$1"*)
			link=${link#/proc/}
			printf '%s ' "${link%/exe}"
			;;
		esac
	done
}

configuration() {
	step "configuration"
	if [ -e "$etc/config.toml" ]; then
		note "$etc/config.toml stays as it is"
	else
		put 0644 "$src/deploy/config.toml" "$etc/config.toml"
		# Without a service manager brigd looks after its containerd.
		has_systemd || do_ sed -i "s|^binary = \"\"|binary = \"$libexec/containerd\"|" "$etc/config.toml"
	fi
	put 0644 "$src/deploy/containerd.toml" "$etc/containerd.toml"
	put 0644 "$src/deploy/brig.conflist" "$etc/cni/brig.conflist"
	if [ -n "$cni_default" ]; then
		put 0644 "$src/deploy/brig.conflist" "$cni_conf"
		put 0755 "$src/bin/brig-cni" "$cni_plugin"
	fi
	# A network manager that knows no better would take brig's links over.
	if [ -d "${networkd%/*}" ] && has_systemd; then
		put 0644 "$src/deploy/network/networkd.network" "$networkd"
	fi
	if [ -d "${networkmanager%/*}" ]; then
		put 0644 "$src/deploy/network/networkmanager.conf" "$networkmanager"
	fi
}

# --- running it -------------------------------------------------------------

start() {
	if has_systemd; then
		step "start brig-containerd.service and brigd.service"
		put 0644 "$src/deploy/systemd/brig-containerd.service" "$units/brig-containerd.service"
		put 0644 "$src/deploy/systemd/brigd.service" "$units/brigd.service"
		do_ systemctl daemon-reload
		do_ systemctl enable --quiet brig-containerd.service brigd.service
		if [ -n "$containerd_changed" ]; then
			do_ systemctl restart brig-containerd.service
		fi
		do_ systemctl start brig-containerd.service
		do_ systemctl restart brigd.service
	else
		step "start brigd, detached, since no systemd runs here (after a reboot: run this again)"
		stop_process brigd "$(users_of "$bin/brigd")"
		[ -z "$containerd_changed" ] || stop_process containerd "$(users_of "$libexec/containerd")"
		do_ install -d -m 0755 "$log"
		start_detached
	fi
	answer
}

start_detached() {
	if [ -n "$dry" ]; then
		note "+ setsid $bin/brigd --config $etc/config.toml >>$log/brigd.log"
		return
	fi
	PATH=$bin:$libexec:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
		setsid --fork "$bin/brigd" --config "$etc/config.toml" </dev/null >>"$log/brigd.log" 2>&1
	note "its log is $log/brigd.log"
}

# stop_process ends processes by their ids and waits for their end.
stop_process() { # NAME IDS
	local id tries
	for id in $2; do
		do_ kill "$id" || continue
		[ -z "$dry" ] || continue
		note "stopping $1 ($id)"
		for ((tries = 0; tries < 150; tries++)); do
			if [ ! -d "/proc/$id" ] || [ "$(state_of "$id")" = Z ]; then
				continue 2
			fi
			sleep 0.1
		done
		die "$1 (process $id) does not end; look at its log, or kill it"
	done
}

state_of() { awk '$1 == "State:" { print $2 }' "/proc/$1/status" 2>/dev/null || true; }

# answer waits until brigd serves.
answer() {
	[ -z "$dry" ] || return 0
	local tries
	for ((tries = 0; tries < 150; tries++)); do
		if "$bin/brig" node info >/dev/null 2>&1; then
			note "brigd $("$bin/brig" version | awk '$1 == "brigd" { print $2 }') answers on $run/brig.sock"
			return
		fi
		sleep 0.2
	done
	if has_systemd; then
		journalctl --no-pager --lines 20 --unit brigd.service >&2 || true
	else
		tail -n 20 "$log/brigd.log" >&2 || true
	fi
	die "brigd does not answer; its last words are above"
}

try() {
	[ -n "$check" ] || return 0
	step "check: a real sandbox"
	do_ "$bin/brig" check || die "brig is installed, but the check failed"
	step "check: escapes from a sandbox's network"
	do_ "$bin/brig" doctor net --quiet --config "$etc/config.toml" ||
		die "brig is installed, but its isolation is not proven: brig doctor net tells more"
}

# --- and removing it --------------------------------------------------------

uninstall() {
	step "sandboxes"
	[ "$(id -u)" = 0 ] || [ -n "$dry" ] || die "needs root: run it with sudo"
	local shims
	shims=$(users_of "$bin/containerd-shim-brig-v1")
	if [ -z "$shims" ]; then
		note "none lives"
	elif [ -n "$force" ]; then
		note "$(wc -w <<<"$shims") live, and are ended"
	else
		die "sandboxes live ($(wc -w <<<"$shims"); brig ls shows those of brigd): end them first, or use --force"
	fi

	step "stop"
	if has_systemd && [ -e "$units/brigd.service" ]; then
		do_ systemctl disable --quiet --now brigd.service
	fi
	stop_process brigd "$(users_of "$bin/brigd")"

	step "what the node holds: sandboxes, network, state"
	if [ -x "$bin/brigd" ]; then
		do_ "$bin/brigd" --config "$etc/config.toml" --teardown ${force:+--force}
	fi
	if has_systemd && [ -e "$units/brig-containerd.service" ]; then
		do_ systemctl disable --quiet --now brig-containerd.service
	fi
	stop_process containerd "$(users_of "$libexec/containerd")"
	# Sandboxes of other containerds lose their runtime with --force.
	shims="$(users_of "$bin/containerd-shim-brig-v1")$(users_of "$libexec/runsc-")"
	if [ -n "$shims" ] && [ -n "$force" ]; then
		# shellcheck disable=SC2086 # ids, one word each
		do_ kill -KILL $shims || true
	fi

	step "files"
	if grep -q " $run/binds/" /proc/self/mountinfo; then
		die "folders that sandboxes were shown are still mounted below $run/binds: unmount them first"
	fi
	do_ rm -f "$units/brigd.service" "$units/brig-containerd.service" "$networkd" "$networkmanager"
	has_systemd && do_ systemctl daemon-reload
	do_ rm -f "$cni_conf" "$cni_plugin" "$cdi"
	do_ rm -f "$bin/brig" "$bin/brigd" "$bin/containerd-shim-brig-v1"
	do_ rm -f "$share"/man/man1/brig.1 "$share"/man/man1/brig-*.1 "$share/bash-completion/completions/brig" \
		"$share/zsh/site-functions/_brig" "$share/fish/vendor_completions.d/brig.fish"
	do_ rm -rf "$share/brig"
	do_ rm -rf "$libexec" "$etc" "$state" "$run" "$log"
	empty_folders

	step "what is left"
	[ -z "$dry" ] || return 0
	local left
	left=$(leftovers)
	[ -z "$left" ] || die "left behind:"$'\n'"$left"
	note "nothing"
}

# empty_folders removes the folders that are often made by brig first, if nothing
# else is in them.
empty_folders() {
	local folder
	for folder in "${libexec%/*}" "${cni_conf%/*}" /etc/cni "${cni_plugin%/*}" /opt/cni \
		"$share"/man/man1 "$share"/bash-completion{/completions,} "$share"/zsh{/site-functions,} "$share"/fish{/vendor_completions.d,}; do
		[ ! -d "$folder" ] || [ -n "$(ls -A "$folder")" ] || do_ rmdir "$folder"
	done
	# A mount of its own as soon as it holds a namespace.
	if [ -d /run/netns ] && [ -z "$(ls -A /run/netns)" ]; then
		! mountpoint --quiet /run/netns || do_ umount --no-mtab /run/netns
		do_ rmdir /run/netns
	fi
}

# leftovers prints what should not be there any more, a line each.
leftovers() {
	local path
	for path in "$bin"/brig "$bin"/brigd "$bin"/containerd-shim-brig-v1 "$libexec" "$etc" "$state" "$run" "$log" \
		"$units"/brig*.service "$networkd" "$networkmanager" "$cni_conf" "$cni_plugin" "$cdi" \
		"$share"/brig "$share"/man/man1/brig{,-*}.1 "$share"/bash-completion/completions/brig \
		"$share"/zsh/site-functions/_brig "$share"/fish/vendor_completions.d/brig.fish \
		/run/netns/brig-host /run/netns/sb-* /sys/fs/cgroup/brig /sys/fs/cgroup/*/brig; do
		[ ! -e "$path" ] || echo "  file $path"
	done
	awk -v run="$run/" -v state="$state/" 'index($5, run) == 1 || index($5, state) == 1 { print "  mount " $5 }' /proc/self/mountinfo
	for path in $(users_of "$bin/brig") $(users_of "$bin/containerd-shim-brig") $(users_of "$libexec/"); do
		echo "  process $path"
	done
	if command -v ip >/dev/null && ip link show brig0 >/dev/null 2>&1; then
		echo "  link brig0"
	fi
	if command -v nft >/dev/null && nft list table inet brig >/dev/null 2>&1; then
		echo "  nft table inet brig"
	fi
}

main() {
	trap '[ -z "$work" ] || rm -rf "$work"' EXIT
	parse "$@"
	if [ "$action" = uninstall ]; then
		uninstall
		return
	fi
	machine
	packages
	if prebuilt; then unpack; else build; fi
	programs
	documents
	configuration
	start
	try
	step "done"
	note "try: brig create --help    remove it: $libexec/install.sh --uninstall"
}

# Read whole before anything runs: an upgrade replaces this very file.
main "$@"
exit
