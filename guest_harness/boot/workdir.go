package boot

import "os"

// makeWorkingDirectory makes the directory that the image's commands start in when the image does not hold it: images
// need not. One that is not absolute is taken from the root, and what a link leads to is made where the link says. A
// command says what is wrong with a directory that cannot be made; the guest is none the worse for it.
func makeWorkingDirectory(path string) {
	if real, err := follow(path, nil); err == nil {
		_ = os.MkdirAll(real, 0o755)
	}
}
