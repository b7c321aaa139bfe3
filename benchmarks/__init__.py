"""Speed, memory and size, reported as ratios to a named peer or limit of the same run."""
