"""Who may do what on the brokers and the databases: the table, the principals' secrets, and putting both in force."""
