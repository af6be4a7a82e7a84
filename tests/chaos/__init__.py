"""Faults on real processes, and a checker that decides from the outside whether anything was lost, doubled or bent.

Clients drive complaints through the procedure and write down what they asked and were told (`history`, `clients`);
`faults` strike at the processes, the disks, the connections and the topics of a `rig`; `evidence` then reads the stores
and the topics by itself, and `checker` decides. ``make chaos`` runs it (`__main__`).
"""
