"""The encoder (XLM-R), the blocks heads are built from, and conversion from and to Hugging Face."""
