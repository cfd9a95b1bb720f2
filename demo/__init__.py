"""The demo family: pictures, the scripts that train on them, and the weights they made."""
