//! The registry over its own sockets: the specification's categories as tables, and what it promises beside.
#![cfg(test)]

mod client;
mod conformance;
mod garbage;
mod uploads;
