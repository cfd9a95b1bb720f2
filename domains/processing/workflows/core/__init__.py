"""What holds of workflows and how they run, without a word of the wire."""
