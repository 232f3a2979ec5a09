"""Token to Claims, or a Refusal; `verifier` states the order of checks.

`token` is about form, `jwks` about keys, `tenants` about whose it is, `claims` about what it says.
"""
