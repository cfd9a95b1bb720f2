"""A worker's side: one process that owns a device."""
