"""The calculation, pure: numpy columns in, numpy columns out. No file, database, clock, pandas or Flask."""
