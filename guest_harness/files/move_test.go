package files

import (
	"os"
	"testing"
)

func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()+"/to"
	_ = os.MkdirAll(from+"/e/f", 0o755)
	err := copyTree(from, to, func() error { return nil }, func(work func() error) error { return work() })
	if err != nil {
		t.Fatal(err)
	}
}
