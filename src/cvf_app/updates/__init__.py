"""Live updates: who may see a thing is told when it comes, changes or goes.

A write announces what it changed (`outbox`), every process reads all announcements from one Redis
stream and tells its open streams (`hub`), each as much as `GET` would tell its listener. Data never
stands in Redis.
"""
