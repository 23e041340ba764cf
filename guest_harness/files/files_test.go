package files

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func calmly() error { return nil }

func directly(work func() error) error { return work() }

// arrive lands what *send* sends at a place.
func arrive(place string, send func(*Out) error) error {
	pipe := newPipe()
	out := newOut(pipe.send)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if send(out) == nil && out.end(nil) == nil {
			_ = out.flush()
		}
		pipe.close()
	}()
	lander := lander{in: In{pipe}}
	err := lander.land(place, "name")
	pipe.close()
	<-done
	return err
}

// Both ends read the same bytes and mean the same by them.
func TestGoldenEntries(t *testing.T) {
	text, err := os.ReadFile("../../tests/golden/entries.json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Kind, Name, Target, Bytes string
		Mode, UID, GID            uint32
		Size, Seconds             int64
		Nanoseconds               uint32
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatal(err)
	}
	letters := map[string]byte{"file": 'f', "directory": 'd', "link": 'l', "fifo": 'p', "character device": 'c'}
	for _, e := range entries {
		name, _ := hex.DecodeString(e.Name)
		target, _ := hex.DecodeString(e.Target)
		want := Entry{letters[e.Kind], e.Mode, e.UID, e.GID, e.Size, e.Seconds, e.Nanoseconds, string(name), string(target)}
		if got := hex.EncodeToString(want.encode()); got != e.Bytes {
			t.Errorf("%v: %s", want, got)
		}
		bytes, _ := hex.DecodeString(e.Bytes)
		if got, err := parseEntry(bytes); err != nil || got != want {
			t.Errorf("%s: %v, %v", e.Bytes, got, err)
		}
	}
}

// A tree that is copied is the same, its links not followed; what is no file, directory or link cannot be copied.
func TestCopyTree(t *testing.T) {
	from, to := t.TempDir()+"/from", t.TempDir()+"/to"
	_ = os.MkdirAll(from+"/d/e", 0o755)
	_ = os.WriteFile(from+"/d/f\xff", []byte(strings.Repeat("x", 1<<20)), 0o640)
	_ = os.Symlink("/etc", from+"/link")
	_ = os.Chmod(from+"/d", 0o500)
	if err := copyTree(from, to, calmly, directly); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(to + "/d/f\xff")
	if err != nil || len(text) != 1<<20 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if target, err := os.Readlink(to + "/link"); target != "/etc" || err != nil {
		t.Errorf("%s, %v", target, err)
	}
	if info, err := os.Stat(to + "/d"); err != nil || info.Mode().Perm() != 0o500 {
		t.Error(info, err)
	}
	_ = os.Chmod(from+"/d", 0o700)
	_ = syscall.Mkfifo(from+"/d/fifo", 0o600)
	if err := copyTree(from, to+"2", calmly, directly); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

// While a directory is exchanged for a link again and again, nothing is ever written through the link.
func TestUploadRace(t *testing.T) {
	top, outside := t.TempDir(), t.TempDir()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Rename(top+"/tree/d", top+"/tree/aside")
				_ = os.Symlink(outside, top+"/tree/d")
				_ = os.Remove(top + "/tree/d")
				_ = os.RemoveAll(top + "/tree/aside")
			}
		}
	}()
	for range 2000 {
		_ = arrive(top+"/tree", func(out *Out) error {
			send := sender{out}
			for _, entry := range []Entry{
				{Kind: directory, Mode: 0o755}, {Kind: directory, Mode: 0o755, Name: "d"}, {Kind: regular, Name: "f"},
			} {
				_ = send.head(entry)
			}
			_ = out.frame(leaveFrame, nil)
			return out.frame(leaveFrame, nil)
		})
	}
	close(stop)
	<-stopped
	if left, _ := filepath.Glob(outside + "/*"); len(left) > 0 {
		t.Error(left)
	}
}

// Removing follows nothing: neither links in the tree, nor one that has just taken a directory's place.
func TestRemoveFollowsNothing(t *testing.T) {
	top, outside := t.TempDir(), t.TempDir()
	_ = os.WriteFile(outside+"/kept", nil, 0o600)
	_ = os.MkdirAll(top+"/tree/d", 0o755)
	_ = os.Symlink(outside, top+"/tree/d/link")
	_ = os.Symlink(outside, top+"/link")
	if err := clear(current, top+"/link", top+"/link", 0, calmly); err == nil {
		t.Error("a link was taken for a directory")
	}
	if err := remove(top+"/tree", true, calmly); err != nil {
		t.Error(err)
	}
	if err := remove(top+"/link", true, calmly); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(outside + "/kept"); err != nil {
		t.Error(err)
	}
}

// Names that lead out of their directory, and frames in a wrong order, are refused.

func TestRemoveRefusesDots(t *testing.T) {
	top := t.TempDir()
	if err := os.WriteFile(top+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{top + "/.", top + "/../" + path.Base(top) + "/./", top + "/x/.."} {
		_ = os.Mkdir(top+"/x", 0o700)
		if err := remove(place, true, func() error { return nil }); err == nil {
			t.Error("removed", place)
		}
		if _, err := os.Stat(top + "/file"); err != nil {
			t.Error("emptied", place)
		}
	}
}

func TestUploadReplacesNoFIFO(t *testing.T) {
	top := t.TempDir()
	if err := syscall.Mkfifo(top+"/name", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{top, top + "/name"} {
		err := arrive(place, func(out *Out) error { return sender{out}.head(Entry{Kind: regular, Mode: 0o600}) })
		if !errors.Is(err, syscall.EEXIST) {
			t.Error(err)
		}
	}
	if about, err := os.Lstat(top + "/name"); err != nil || about.Mode().Type() != os.ModeNamedPipe {
		t.Error("a FIFO was replaced", about, err)
	}
}

func TestModeOfWhatWasMade(t *testing.T) {
	top := t.TempDir()
	target := top + "/target"
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, top+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := chmodMade(top+"/link/", 0o777); err == nil {
		t.Error("a link in the place of a new directory was followed")
	}
	if about, err := os.Stat(target); err != nil || about.Mode().Perm() != 0o700 {
		t.Error("the mode of what it leads to was set", about, err)
	}
}

func TestUploadRefuses(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/etc/x", "../x", "a\x00b"} {
		err := arrive(t.TempDir(), func(out *Out) error {
			_ = sender{out}.head(Entry{Kind: directory})
			return sender{out}.head(Entry{Kind: regular, Name: name})
		})
		if err != errEntry {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, kinds := range [][]byte{{'d', '<', '<'}, {'d', '<', 'f'}, {'f', '<', '<'}, {'d', '='}} {
		err := arrive(t.TempDir(), func(out *Out) error {
			for _, kind := range kinds {
				switch kind {
				case '<':
					_ = out.frame(leaveFrame, nil)
				case '=':
					_ = out.frame(dataFrame, []byte("x"))
				default:
					_ = sender{out}.head(Entry{Kind: kind, Name: "x"})
				}
			}
			return nil
		})
		if err != errFrame {
			t.Errorf("%q: %v", kinds, err)
		}
	}
}

// A tree of any depth can be removed; one that is too deep to travel is an error.
func TestDeepTree(t *testing.T) {
	top := t.TempDir()
	fd, err := openat(current, top, enter, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 600 {
		_ = syscall.Mkdirat(fd, "d", 0o755)
		next, err := openat(fd, "d", enter, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Close(fd)
		fd = next
	}
	_ = syscall.Close(fd)
	out := newOut(func([]byte) error { return nil })
	if err := (sender{out}).tree(top, true); err == nil || !strings.Contains(err.Error(), "256") {
		t.Error(err)
	}
	if err := remove(top+"/d", true, calmly); err != nil {
		t.Error(err)
	}
}

// Holes are found, wherever they are, and made again.
func TestHoles(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.WriteAt([]byte("data"), 8<<20)
	_ = file.Truncate(16 << 20)
	_ = file.Close()
	if err := copyTree(dir+"/sparse", dir+"/copy", calmly, directly); err != nil {
		t.Fatal(err)
	}
	stat := &syscall.Stat_t{}
	if err := syscall.Stat(dir+"/copy", stat); err != nil || stat.Size != 16<<20 || stat.Blocks*512 > 1<<20 {
		t.Error(stat.Size, stat.Blocks, err)
	}
	text, _ := os.ReadFile(dir + "/copy")
	if string(text[8<<20:8<<20+4]) != "data" || strings.Trim(string(text[:8<<20]), "\x00") != "" {
		t.Error("other bytes")
	}
}

// FuzzUpload lands whatever frames say: nothing beside the destination is touched, and nothing panics.
func FuzzUpload(f *testing.F) {
	f.Add([]byte("dx<"), "..")
	f.Add([]byte("ddf=<<"), "a")
	f.Add([]byte("dld=f="), "d")
	f.Fuzz(func(t *testing.T, kinds []byte, name string) {
		top := t.TempDir()
		_ = os.Mkdir(top+"/outside", 0o755)
		_ = arrive(top+"/in", func(out *Out) error {
			for _, kind := range kinds[:min(len(kinds), 64)] {
				switch kind {
				case '<':
					_ = out.frame(leaveFrame, nil)
				case '=':
					_ = out.frame(dataFrame, []byte("x"))
				case '_':
					_ = out.hole(100)
				case 'l':
					_ = sender{out}.head(Entry{Kind: link, Name: name, Target: "../outside"})
				default:
					_ = sender{out}.head(Entry{Kind: kind, Mode: 0o755, Name: name[:min(len(name), 300)]})
				}
			}
			return nil
		})
		if left, _ := filepath.Glob(top + "/outside/*"); len(left) > 0 {
			t.Error(left)
		}
		if left, _ := filepath.Glob(top + "/*"); len(left) > 2 {
			t.Error(left)
		}
	})
}
