"""What happens to a pair between its decoding and the model, every draw shared by real and fake."""
