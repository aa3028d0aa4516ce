"""Studies: many trainings that belong together, planned as a manifest and run from it."""
