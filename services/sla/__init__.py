"""The clocks: how long each step of the procedure has taken, who is near or past a due date, and who was told so."""
