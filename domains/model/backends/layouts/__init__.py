"""Names of tensors in files that are not laid out like folders, turned into those of folders.

Each module knows the names of one kind of network and says which stored tensor fills which.
"""
