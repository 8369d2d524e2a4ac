"""The servers that a full instance needs, fetched, built, started and stopped on one machine.

For tests, demonstrations and people who try things out; never for a hospital's own installation.
Standard library only, so that it runs before anything else is set up. Promises: everything
listens on loopback alone; a server is told from another program that got its process id; what is
fetched or built appears in the cache whole or not at all; a secret stands in a file that only its
owner reads, and on no command line but where a program knows no other way (named there).
"""
