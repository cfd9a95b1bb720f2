"""A library whose native part is missing, as on Linux without WSL."""

raise OSError(
    "/opt/secret/place/libd3d12.so: cannot open shared object file: No such file or directory"
)
