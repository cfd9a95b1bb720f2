"""What a chain of finishing steps comes to, in plain Python."""
