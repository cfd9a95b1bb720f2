"""What a device's worker does for safety checks."""
