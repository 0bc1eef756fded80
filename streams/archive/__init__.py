"""Events as they are in the bucket, and their ways out of it: `get`, `restore` and `redrive`, without a terminal."""
