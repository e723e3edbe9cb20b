"""The command line: main.py parses, verbs/ does, display.py shows."""
