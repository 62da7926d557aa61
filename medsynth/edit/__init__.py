"""Editing label maps: pure, recorded, replayable. Knows label maps; no files, no scans."""
