"""What can be done to finished pictures, and having it done."""
