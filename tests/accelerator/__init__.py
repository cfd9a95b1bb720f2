"""What only a graphics card can show; skipped where there is none."""
