//! What commands may not do to the guest: a seccomp filter.
