"""The central and regional operators' desks, the agency directory, and the coordinator's view (SOP steps 2, 3 and
5)."""
