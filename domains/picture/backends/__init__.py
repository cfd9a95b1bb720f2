"""Pictures on disk, and what an inspector does with them."""
