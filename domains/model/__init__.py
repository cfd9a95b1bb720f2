"""Models: what lies in the configured roots, recognised by headers and never by file names.

Model owns the catalogue; it opens nothing outside the roots, opens no pickle, downloads
nothing, and runs nothing: drawing is the inference domain's.
"""
