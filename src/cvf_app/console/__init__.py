"""The command line `cvf`: a client of the HTTP interface."""
