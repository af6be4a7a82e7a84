"""Load and speed: ``make bench`` measures the system beside floors and peers on one machine (see ``docs/bench.md``)."""
