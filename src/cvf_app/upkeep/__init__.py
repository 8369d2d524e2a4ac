"""What keeps an instance in order: its keys renewed, its parts in agreement."""
