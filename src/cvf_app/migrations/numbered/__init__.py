"""The migrations, a file each; a file that was released is never changed again."""
