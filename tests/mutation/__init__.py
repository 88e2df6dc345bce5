"""Mutation testing: small changes to a module, each of which the module's own tests are to notice."""
