"""The whole test session runs on eight simulated CPU devices; nothing here needs a network or an accelerator."""

import os

# JAX reads these when it is first imported, so they must stand before any test module is.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
