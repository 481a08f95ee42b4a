//! System calls that have no safe wrapper elsewhere: the only file of this crate with `unsafe`.
