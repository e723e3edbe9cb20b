"""Running xtl on Cloud TPU: a launcher that keeps a run alive, manifests for GKE and SkyPilot."""
