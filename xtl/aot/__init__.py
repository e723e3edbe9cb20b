"""Ahead-of-time compilation for TPU slices that need not be there, and what can be read from the result."""
