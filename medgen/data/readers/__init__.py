"""One module per kind of file; each has `read(paths, config) -> Samples`."""
