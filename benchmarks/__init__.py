"""One file per figure that the README quotes; each measures this project and a peer in one run."""
