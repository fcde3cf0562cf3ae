//! The system calls that `rustix` lacks, as safe functions over owned fds.
//!
//! This is the only crate with `unsafe`. It knows nothing of containers, images or paths of ours.
#![expect(unsafe_code, reason = "the one place where raw system calls are made")]

pub mod activation;
pub mod bpf;
pub mod datagram;
pub mod datagrams;
pub mod descriptors;
pub mod heap;
pub mod memfd;
pub mod mount;
pub mod netns;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod userns;
pub mod verity;
pub mod writeback;
