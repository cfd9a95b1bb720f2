"""The front process: one gRPC server around the domain services, and its command line."""
