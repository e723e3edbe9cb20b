"""The whole test session runs on eight simulated CPU devices; nothing here needs a network or an accelerator."""

import os

# JAX reads these when it is first imported, so they must stand before any test module is.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Tests compile much and compute little: this compiles four times faster and computes three times slower.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
