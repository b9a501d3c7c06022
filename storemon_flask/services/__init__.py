"""Where ingest, storage and core meet, once for every door (command line, HTTP)."""
