"""Local mode: one durable instance on one machine, and the guard of its processes."""
