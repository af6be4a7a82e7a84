"""Everything that puts the services on a machine: locally, in containers, on a cluster, and under observation."""
