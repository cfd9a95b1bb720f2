"""The behaviour of the device domain."""

from domains.device.core.inventory import DeviceInventory

__all__ = ["DeviceInventory"]
