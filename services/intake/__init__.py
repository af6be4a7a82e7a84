"""The citizens' desk: accounts and sign-in, reports with photo and place, and following a complaint."""
