"""What works on pixels, in the device's worker."""
