"""Reading models from disk into networks: the only part of the model domain with torch.

What a file or folder says about itself is checked first, by plain Python and with every
number bounded; nothing is built and no tensor is read before the whole model has passed.
"""
