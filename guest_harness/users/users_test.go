package users

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const passwd = `# comment
root:x:0:0:root:/root:/bin/sh
broken:x:notanumber:0::/:
short:x:5
ann:x:1000:1000:Ann:/home/ann:/bin/sh
homeless:x:1001:1001:::
1000x:x:7:7::/seven:
12:x:1200:1200::/twelve:
unchanged:x:4294967295:0::/:
`

const group = `root:x:0:
wheel:x:10:root,ann
staff:x:50:bob,annie
audio:x:63:ann
10:x:77:
`

func files(t *testing.T, passwd, group string) Files {
	t.Helper()
	dir := t.TempDir()
	f := Files{filepath.Join(dir, "passwd"), filepath.Join(dir, "group")}
	if err := os.WriteFile(f.Passwd, []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Group, []byte(group), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

// Users and groups are found by name and by number.
func TestFind(t *testing.T) {
	f := files(t, passwd, group)
	cases := map[string]Account{
		"":           {"root", 0, 0, []uint32{10}, "/root"},
		"root":       {"root", 0, 0, []uint32{10}, "/root"},
		"0":          {"root", 0, 0, []uint32{10}, "/root"},
		"ann":        {"ann", 1000, 1000, []uint32{10, 63}, "/home/ann"},
		"1000":       {"ann", 1000, 1000, []uint32{10, 63}, "/home/ann"},
		"ann:audio":  {"ann", 1000, 63, nil, "/home/ann"},
		"ann:10":     {"ann", 1000, 77, nil, "/home/ann"},
		"1000:4711":  {"ann", 1000, 4711, nil, "/home/ann"},
		"homeless":   {"homeless", 1001, 1001, nil, "/"},
		"12":         {"12", 1200, 1200, nil, "/twelve"},
		"4242":       {"", 4242, 0, nil, "/"},
		"4242:staff": {"", 4242, 50, nil, "/"},
		"0:0":        {"root", 0, 0, nil, "/root"},
	}
	for text, want := range cases {
		got, err := f.Find(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"nobody", "broken", "short", "unchanged", "4294967295", "4294967296", "-1", ":", "ann:", "ann:nogroup", " ann", "# comment"} {
		if got, err := f.Find(text); err == nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

// An image without the files knows numbers and root.
func TestNoFiles(t *testing.T) {
	f := Files{"/nonexistent/passwd", "/nonexistent/group"}
	if got, err := f.Find(""); err != nil || got.Name != "root" || got.Home != "/" {
		t.Errorf("root: %+v, %v", got, err)
	}
	if _, err := f.Find("root"); err == nil {
		t.Error("a name was found in no file")
	}
}

// Lines that are no entries, however long, are skipped.
func TestHostileFiles(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	f := files(t, long+"\n"+strings.Repeat(":\n", 1000)+"\x00\xff:::::::\nann:x:5:6::/a:\n"+long, "g:x:7:"+strings.Repeat("ann,", 1<<16)+"\nh:x:8:ann")
	got, err := f.Find("ann")
	if err != nil || got.UID != 5 || !reflect.DeepEqual(got.Groups, []uint32{8}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A FIFO, a directory and a device are no databases.
func TestNotFiles(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/dev/zero"} {
		if _, err := (Files{path, path}).Find("ann"); err == nil {
			t.Errorf("%s: a name was found", path)
		}
	}
}

// The directory notices that the files have changed.
func TestDirectoryNotices(t *testing.T) {
	f := files(t, passwd, group)
	d := NewDirectory(f)
	for range 2 {
		if got, err := d.Find("ann"); err != nil || got.UID != 1000 {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if err := os.WriteFile(f.Passwd, []byte("ann:x:5:6::/a:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Find("ann"); err != nil || got.UID != 5 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzFind looks for crashes and for accounts with the id that means "unchanged".
func FuzzFind(f *testing.F) {
	f.Add(passwd, group, "ann")
	f.Add("ann:x:1:1::/:", "a:x:1:ann", "ann:a")
	f.Fuzz(func(t *testing.T, passwd, group, user string) {
		account, err := files(t, passwd, group).Find(user)
		if err == nil && (account.UID == 1<<32-1 || account.GID == 1<<32-1) {
			t.Fatalf("%q: %+v", user, account)
		}
	})
}

// A failed search is remembered, until a file changes.
func TestFailureRemembered(t *testing.T) {
	f := files(t, "ann:x:5:6::/a:\n", "")
	directory := NewDirectory(f)
	for range 2 {
		if _, err := directory.Find("bob"); err == nil {
			t.Fatal("an unknown name was found")
		}
	}
	if len(directory.known) != 1 {
		t.Errorf("remembered: %v", directory.known)
	}
	if err := os.WriteFile(f.Passwd, []byte("ann:x:5:6::/a:\nbob:x:7:8::/b:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := directory.Find("bob"); err != nil || got.UID != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}
