"""One file per job framework: what its commands mean. `base` is the interface, `router` finds whose a key is."""
