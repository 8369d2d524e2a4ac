"""What a handler needs of HTTP: bodies, replies, who may call, errors, health."""
