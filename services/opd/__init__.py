"""The agencies' desks: an agency (OPD) takes up what was assigned to it, tells how it goes, and completes or declines
it."""
