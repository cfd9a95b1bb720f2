"""Reading memory from the operating system."""
