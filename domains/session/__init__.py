"""Sessions: one accepted piece of long work with an id, a state, an event log and a result.

Below the domains, because all of them start sessions; it does none of the work itself and
never imports a domain that does.
"""
