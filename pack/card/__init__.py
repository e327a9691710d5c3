"""In: the manifests of a dataset's splits. Out: its card ``README.md``, for people and Hugging Face's hub.

Next: `pack.publish` and `pack.adopt` write the card before the manifest; `pack.inspect.audit` fills in what
it found.
"""
