//! The command line as a program, against engines of the tests' own that answer with recorded words.
#![cfg(test)]
#![forbid(unsafe_code)]

mod engine;
mod network;
mod run;
mod shown;
