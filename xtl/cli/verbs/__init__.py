"""What each verb of the command line does: one function a verb, called with its arguments (see xtl/cli/main.py)."""
