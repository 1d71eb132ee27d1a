"""What the project is made of: advisories about it, its bill of materials, and how it is installed hardened."""
