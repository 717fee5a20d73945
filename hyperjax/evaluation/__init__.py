"""What trained models reach, and what simple ones do."""
