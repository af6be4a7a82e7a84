"""The commands of `lapor` that look into a running installation, one noun a module."""
