"""Editing label maps: pure, recorded, replayable. Knows label maps; no files, no scans."""

REVISION = 2
"""Counts changes after which the same recipe makes other maps."""
