"""From files to batches: readers, token cache, rows, order."""
