"""Weights and heads from and to Hugging Face folders (safetensors), without PyTorch."""
