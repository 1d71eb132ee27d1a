"""Who may do what: principals, scopes, roles, credentials, tokens."""
