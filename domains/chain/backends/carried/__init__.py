"""Networks that come with the product: what finds faces and what tells people from the rest.

Their weights are MediaPipe's (Apache License 2.0; see LICENSE and NOTICE here), written down
anew by `tools/carried_networks.py`. They run on the processor, where each takes a few
milliseconds, so that nothing of them ever lies on a device.
"""
