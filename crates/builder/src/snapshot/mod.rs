//! States of a file system: layers of images and of steps.
