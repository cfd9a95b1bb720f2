"""What the front and a worker say to each other, and over what."""
