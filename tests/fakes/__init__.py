"""Stand-ins for missing hardware and for faults, named after the ports they fill."""
