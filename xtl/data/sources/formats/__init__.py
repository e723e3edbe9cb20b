"""Readers for the files as their authors distribute them. base.py finds them, text.py reads lines and rows, the
other modules turn rows into the examples of `xtl.task`."""
