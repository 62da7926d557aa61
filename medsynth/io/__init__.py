"""Files: NIfTI, folder layouts, cohorts, sidecars. The only package that opens data files."""
