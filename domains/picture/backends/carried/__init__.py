"""Networks that come with the product: what finds faces and what tells people from the rest.

Their weights are MediaPipe's (Apache License 2.0; see LICENSE and NOTICE here), written down
anew by `tools/carried_networks.py`. They run on the processor with numpy alone, each in
a tenth of a second or two: in workers and where input pictures are prepared, and nothing of
them ever lies on a device.
"""
