"""Who may ask the gateway for what, and how much of it: API keys, scopes, rates, and what a browser is told."""
