"""The three files of a family that the product does not have, and what draws with it."""
