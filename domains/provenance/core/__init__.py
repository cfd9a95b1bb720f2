"""Which marks a picture gets, putting them there, and reading them, without libraries."""

from domains.provenance.core.keeping import Keeping
from domains.provenance.core.marking import Provenance, merged
from domains.provenance.core.verification import Verification, Verified

__all__ = ["Keeping", "Provenance", "Verification", "Verified", "merged"]
