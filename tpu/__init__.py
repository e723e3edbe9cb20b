"""Running xtl on Cloud TPU: a slice table, a launcher that keeps a run alive, manifests for GKE and SkyPilot."""
