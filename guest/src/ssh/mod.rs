//! The SSH transport and connection protocols of a server, without input and output of its own.
