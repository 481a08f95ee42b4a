//! The process that runs one command and answers for its descendants.
