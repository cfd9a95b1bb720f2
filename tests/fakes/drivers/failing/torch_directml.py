"""A driver whose parts go missing only when it is asked."""


def device_count() -> int:
    raise OSError(2, "No such file or directory", "/usr/lib/wsl/lib/libdxcore.so")
