"""Reports: validated requests, the computation over all stores, the files, the queue and its worker."""
