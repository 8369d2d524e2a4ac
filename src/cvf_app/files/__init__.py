"""Files from outside: uploads, their place on disk, their documents."""
