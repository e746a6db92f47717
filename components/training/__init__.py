"""The one training loop, its checkpoints and schedule, and pretraining."""
