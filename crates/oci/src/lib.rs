//! Values of the container world, without I/O.
//!
//! Image and runtime specification, digests, references, platforms, ids and times. Nothing here
//! opens a file, a socket or a clock's device, and nothing here knows where Gorae keeps things.
#![forbid(unsafe_code)]

pub mod digest;
pub mod id;
pub mod image;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use digest::Digest;
pub use id::ContainerId;
pub use platform::Platform;
pub use reference::Reference;
