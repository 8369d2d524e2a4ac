"""Settings of the instance and of each person, maintenance, and what front ends log."""
