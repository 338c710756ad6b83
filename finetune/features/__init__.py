"""What is frozen is computed once: cuts, the decision what to store, the store, and its batches."""
