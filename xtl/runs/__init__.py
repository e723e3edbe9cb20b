"""Pipelines of stages in a WORKDIR: what to run, what is done, results, cost."""
