//! The Dockerfile language, up to the graph that a builder solves.
//!
//! Values in, values out: this crate opens no file and no socket. What it must know of images and
//! contexts its caller answers ([`Resolve`]).
//!
//! - [`syntax`]: from bytes to nodes: lines, directives, here-documents, words.
//! - [`instruction`]: from nodes to typed instructions.
//! - [`expand`]: variables and quotes.
//! - [`ignore`]: `.dockerignore` and the patterns of `COPY --exclude`.
//! - [`convert`]: stages, scopes and image configurations; gives an LLB [`pb::Definition`].
//! - [`llb`]: the graph itself.
//! - [`lint`]: the checks; [`call`]: `--call outline|targets|lint`.
//!
//! Messages are `BuildKit`'s where clients or people may compare them. Whatever a file says, the
//! work is bounded: sizes, depths and the length of expansions have limits.
#![forbid(unsafe_code)]

pub mod call;
pub mod convert;
pub mod env;
mod error;
mod excerpt;
pub mod expand;
pub mod gofmt;
pub mod ignore;
pub mod instruction;
pub mod lint;
pub mod llb;
mod pattern;
mod span;
mod suggest;
pub mod syntax;

pub use convert::{Converted, Options, Resolve, convert};
pub use error::{DockerfileError, Reason};
pub use excerpt::excerpt;
pub use llb::pb;
pub use pattern::PatternError;
pub use span::Span;
