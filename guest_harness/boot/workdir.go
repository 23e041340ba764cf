package boot

import (
	"os"
	"strings"
)

// makeWorkingDirectory makes the directory that the image's commands start in when the image does not hold it: images
// need not. A command says what is wrong with a directory that cannot be made; the guest is none the worse for it.
func makeWorkingDirectory(path string) {
	if strings.HasPrefix(path, "/") {
		_ = os.MkdirAll(path, 0o755)
	}
}
