package e2e

import (
	"strings"
	"testing"
	"time"
)

// changes is everything that a program can do to the files of busybox's image.
const changes = `set -e
echo new >/new; chmod 4751 /new; chown 5:6 /new; touch -d 2001-02-03 /new
rm /bin/vi
rm -r /srv; mkdir /srv; echo over >/srv/file
mkdir -p /a/b/c; echo one >/a/b/one; ln /a/b/one /a/two; ln -s ../../etc /a/link; mkfifo /a/fifo
mv /usr /moved
echo more >>/etc/passwd
dd if=/dev/urandom of=/large bs=1M count=160 2>/dev/null
truncate -s 8M /sparse; echo end >>/sparse
: >/empty; : >'/with space
and line'
echo not kept >/run/file; echo not kept >/dev/shm/file`

// listing is all that can be seen of them. The mounts have their own.
const listing = `cd /; find . -xdev \( -path ./.brig -o -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path './etc/host*' -o -path ./etc/resolv.conf \) -prune -o ! -type d -exec stat -c '%N %A %u:%g %s %h' {} +  | sort
find . -xdev -type d ! -path './proc*' ! -path './sys*' ! -path './dev*' ! -path ./.brig ! -path . -exec stat -c '%n %A %u:%g' {} + | sort
stat -c %Y /new
md5sum /new /large /sparse /srv/file /a/two /etc/passwd`

// TestSnapshot: an image has every file as the sandbox has it, of a sandbox whose memory
// does not hold the largest of them; and a snapshot of a snapshot, too.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--memory", "96", n.busybox, "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
	n.Brig(t, "exec", id, "--", "sh", "-c", changes)
	want := n.Brig(t, "exec", id, "--", "sh", "-c", listing)
	name := strings.TrimSpace(n.Brig(t, "snapshot", id, "e2e-files:1"))
	t.Cleanup(func() { n.Try(t, "image", "rm", "e2e-files:1", "e2e-files:2") })
	if name != "snapshot.brig/0/e2e-files:1" {
		t.Errorf("name %q", name)
	}
	if r := n.Try(t, "snapshot", id, "e2e-files:1"); r.Code == 0 || !strings.Contains(r.Stderr, "remove it first") {
		t.Errorf("a name that is taken: %s", r)
	}
	if got := n.Brig(t, "exec", id, "--", "sh", "-c", listing); got != want {
		t.Errorf("the snapshot has changed the sandbox: %s", difference(want, got))
	}
	at := n.Brig(t, "logs", id)
	eventually(t, 10*time.Second, func() error {
		if n.Brig(t, "logs", id) == at {
			return errString("the program stands still after the snapshot")
		}
		return nil
	})
	clone := n.Create(t, "e2e-files:1")
	if got := n.Brig(t, "exec", clone, "--", "sh", "-c", listing); got != want {
		t.Errorf("files of the snapshot: %s", difference(want, got))
	}
	if got := n.Brig(t, "exec", clone, "--", "sh", "-c", "cat /run/file /dev/shm/file 2>&1; ls /bin/vi 2>&1; true"); strings.Contains(got, "not kept") || !strings.Contains(got, "/bin/vi: No such file") {
		t.Errorf("it has %q", got)
	}
	n.Brig(t, "exec", clone, "--", "sh", "-c", "rm -r /a /large; echo second >/second")
	want = n.Brig(t, "exec", clone, "--", "sh", "-c", strings.Replace(listing, " /large /sparse /srv/file /a/two", "", 1))
	n.Brig(t, "snapshot", clone, "e2e-files:2")
	n.Brig(t, "image", "rm", "e2e-files:1") // what others are made from goes on
	second := n.Create(t, name[:len(name)-1]+"2")
	if got := n.Brig(t, "exec", second, "--", "sh", "-c", strings.Replace(listing, " /large /sparse /srv/file /a/two", "", 1)); got != want {
		t.Errorf("files of a snapshot of a snapshot: %s", difference(want, got))
	}
	n.Brig(t, "rm", "--force", id, clone, second)
}

// difference shows the first lines that differ.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "line " + a[i] + "\nis " + b[i]
		}
	}
	return "one has more lines:\n" + want + "\n" + got
}

// TestSnapshotsAreTheirOwners: to others they are not there, whatever they call them.
func TestSnapshotsAreTheirOwners(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	n.Brig(t, "snapshot", id, "e2e-own")
	r := n.as(t, nobody, "create", n.busybox)
	if r.Code != 0 {
		t.Fatal(r)
	}
	theirs := strings.TrimSpace(r.Stdout)
	t.Cleanup(func() { n.Try(t, "rm", "--force", id, theirs); n.Try(t, "image", "rm", "e2e-own") })
	if r := n.as(t, nobody, "snapshot", id, "e2e-stolen"); r.Code == 0 || !strings.Contains(r.Stderr, "there is no sandbox") {
		t.Errorf("of another's sandbox: %s", r)
	}
	if r := n.as(t, nobody, "image", "ls"); strings.Contains(r.Stdout, "e2e-own") {
		t.Errorf("the list of another: %s", r)
	}
	for _, args := range [][]string{
		{"create", "snapshot.brig/0/e2e-own"}, {"create", "snapshot.brig/0/e2e-own:latest"}, {"create", "e2e-own"},
		{"image", "rm", "snapshot.brig/0/e2e-own"}, {"image", "pull", "snapshot.brig/65533/x"},
	} {
		if r := n.as(t, nobody, args...); r.Code == 0 {
			t.Errorf("another's snapshot: %s", r)
		}
	}
	if r := n.as(t, nobody, "snapshot", theirs, "e2e-own"); r.Code != 0 || r.Stdout != "snapshot.brig/65533/e2e-own:latest\n" {
		t.Errorf("the same name for another: %s", r)
	}
	if r := n.as(t, nobody, "create", "e2e-own"); r.Code != 0 {
		t.Error(r)
	} else {
		n.Brig(t, "rm", "--force", strings.TrimSpace(r.Stdout))
	}
	if r := n.as(t, nobody, "image", "rm", "e2e-own"); r.Code != 0 {
		t.Error(r)
	}
	if list := n.Brig(t, "image", "ls"); !strings.Contains(list, "snapshot.brig/0/e2e-own") || strings.Contains(list, "65533") {
		t.Errorf("images: %s", list)
	}
}
