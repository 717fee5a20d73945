"""Many runs that differ in a few fields of their config."""
