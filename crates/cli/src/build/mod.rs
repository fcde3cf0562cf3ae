//! `gorae build`: from the command line to BuildKit's words for it, and what a build tells shown.

pub(crate) mod attributes;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod display;
pub(crate) mod exporters;
pub(crate) mod flags;
pub(crate) mod secrets;
pub(crate) mod watch;
