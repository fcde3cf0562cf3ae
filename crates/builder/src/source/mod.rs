//! Where files come from: images, contexts, repositories, the web.

pub mod filter;
pub mod local;
