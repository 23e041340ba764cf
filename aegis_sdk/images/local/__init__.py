"""Images that are on this machine: OCI layouts, files of `docker save`, directories, and the busybox of `base`."""
