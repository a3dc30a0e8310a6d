# Short names for what `cargo shop` does; nothing here that it cannot do.

# List the recipes.
default:
    @just --list

# Bring the shop up, stop it with Ctrl-C.
up *flags:
    cargo shop up {{flags}}

# Everything that continuous integration runs.
test:
    cargo shop test

# Renew the checked SQL after a change to a query or a migration.
prepare:
    cargo prepare

# Licences, bans and sources of all dependencies.
deny:
    cargo deny check licenses bans sources
