"""xtl: intermediate-task training and zero-shot cross-lingual transfer with XLM-R in JAX."""

__version__ = "0.1.0"
