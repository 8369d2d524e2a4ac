"""Networks of nodes; for now the one network that is built in."""
