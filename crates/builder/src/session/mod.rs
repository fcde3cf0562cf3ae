//! The services that a client offers to its builds.
