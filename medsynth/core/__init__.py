"""Values: label schemes, volumes, cohorts, random keys. Opens no file, knows no network."""
