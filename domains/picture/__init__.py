"""Input pictures: from what a client gives to pixels that work can take."""
