"""The server's side: workers started, watched, replaced, given work."""
