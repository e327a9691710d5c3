"""In: a source. Out: how the work on it is dealt: to parts that outlive a kill, to ranks, to threads."""
