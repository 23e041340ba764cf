"""Images from registries, by the OCI distribution specification: found, fetched, verified, and kept as blobs."""
