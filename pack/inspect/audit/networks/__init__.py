"""In: pairs, as windows. Out: what small networks find that no statistic was made for.

Next: `pack.inspect.audit.command` adds it to the other findings.
"""
