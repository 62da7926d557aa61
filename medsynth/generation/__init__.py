"""Many scans: which to make, who makes which, and how they get onto disk."""
