"""In: pairs of a dataset. Out: facts and numbers of both images of each pair."""
