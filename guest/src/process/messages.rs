//! What guest, zygote and keepers say to each other.
