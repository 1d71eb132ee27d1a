"""Where content lives: kept by us (`embedded`), later by an existing registry (`upstream`)."""
