//! The engine: lifecycle of containers, images, networks and volumes.
//!
//! It owns the state machine, the events and the metadata database. Its methods take and give the
//! wire types of `api`, and fail with [`Error`], whose [`Kind`] the protocols above translate.
//!
//! It never reads a cgroup (the shim answers), never speaks HTTP, never prints, and never holds a
//! container's streams: those go on when the engine dies.
#![forbid(unsafe_code)]

mod calm;
mod check;
mod config;
mod container;
mod db;
mod df;
mod engine;
mod error;
mod event;
mod filter;
mod glob;
mod image;
mod live;
pub mod metrics;
mod names;
mod network;
mod notice;
mod recover;
#[cfg(test)]
mod scene;
mod seccomp;
mod shim_link;
mod signal;
mod step;
mod system;
mod userns;
mod volume;
mod warm;

pub use check::CheckRequest;
pub use config::{Config, Keeper, StoreLimits};
pub use container::{Attachment, Following, LogReader, Outgoing, Run, Sampler, Settled, Waiter};
pub use engine::Engine;
pub use error::{Error, Kind, Result};
pub use event::Subscription;
pub use image::{
    AttestationRequest, BaseImage, BaseMode, BaseRequest, BuiltImage, BuiltLayer, BuiltPush,
    BuiltRelease, ContentLease, Demand, ImageArchive, ImportRequest, ImportSource, LoadRequest,
    ProgressSender, PushRequest, PushTold, RemotePlace, SignaturePolicy, SignatureRule,
};
pub use signal::parse as signal_number;
pub use step::{
    LiveProcess, StepControl, StepEnd, StepGuard, StepInput, StepMount, StepNetwork, StepOutput,
    StepProcess, StepRequest, StepStream, StepStreams,
};
pub use storage::SnapshotterChoice;
pub use storage::packing::{Packing, ParsePackingError};
