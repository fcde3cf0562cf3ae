//! The registry over its own sockets: the specification's categories as tables, and what it promises beside.
#![cfg(test)]

mod auth;
mod beside;
mod client;
mod conformance;
mod garbage;
mod proxy;
mod uploads;
