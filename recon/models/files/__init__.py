"""In: a folder or a file with an autoencoder's weights. Out: a folder that diffusers loads.

`choice.py` says which of a folder's files are loaded, `damage.py` which can't be, `single.py` turns files of
other programs into diffusers' own. The JSON files are the settings that no tensor's shape tells.
"""
