//! Finding and killing the descendants of a command.
