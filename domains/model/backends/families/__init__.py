"""What differs between families of models: a module for each, named like its architecture.

What stands here is plain Python, for the server's front as well as its workers. How a family
encodes text is in the module of the same name in `domains/inference/backends/families`.
"""
