//! The low-level OCI runtime: namespaces, cgroups, rootfs, seccomp, capabilities.
#![forbid(unsafe_code)]
