//! Where files come from: images, contexts, repositories, the web.
