"""Which policies there are, what is wrong with one, and what a check comes to."""
