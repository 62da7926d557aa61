"""The trainer base: games, phases, ranks, checkpoints. Knows no voxels and no columns."""
