"""Who somebody is and what they may do: tokens verified, grants read, and for development, tokens made.

A token is a JWT (RFC 7519) in the compact form of a JWS (RFC 7515). Floor 3: may import `ngos.config`, `ngos.errors`,
`ngos.protocol`, and of its own floor `ngos.incidents`. `grants` is pure; `tokens` and `keys` do no I/O but read files
when a verifier is opened; `jwks` fetches; `verifier` puts them together and is what the server uses.
"""
