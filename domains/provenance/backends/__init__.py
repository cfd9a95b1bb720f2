"""Certificates, manifests and marks as libraries and files have them."""
