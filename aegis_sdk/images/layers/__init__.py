"""From layers to a disk: tars read, merged as a tree of names, and written as one EROFS file."""
