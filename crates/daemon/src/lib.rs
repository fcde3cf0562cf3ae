//! HTTP routes, sockets, configuration and signals of the engine.
#![forbid(unsafe_code)]
