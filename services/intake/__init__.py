"""The citizen's desk: sign-in, reports and photos, corrections, ratings, and following a complaint (SOP step 1)."""
