"""What trains, what is held fixed, and the proof that it stayed fixed."""
