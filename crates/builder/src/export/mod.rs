//! What a build gives: images, archives, folders.
