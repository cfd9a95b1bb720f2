"""What the training scripts share: pictures, composites, losses, the loop."""
