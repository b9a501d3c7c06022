"""The version, where the package, `--version` and every report find it."""

VERSION = "0.1.0"
