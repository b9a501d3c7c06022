"""HTTP: check, parse, one call, answer."""
