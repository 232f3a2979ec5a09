"""Where records come from: `base` is the port, `embedded` a local file, `kafka` a cluster."""
