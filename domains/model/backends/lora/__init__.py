"""LoRAs and their relatives: what their tensors change in which layers, without torch."""
