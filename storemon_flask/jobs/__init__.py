"""Reports as jobs in the process: an executor, a runner, and the lock that says which process is the server."""
