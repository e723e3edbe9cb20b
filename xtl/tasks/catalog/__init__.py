"""One small file a task, each ending in `TASK = Task(...)`; adding a task is adding a file here."""
