//! What is not as the engine remembers it (`POST /gorae/system/check`).

use crate::wire::wire;

wire! {
    /// Every difference that was found.
    #[derive(Eq)]
    pub struct Report {
        /// Differences; none when all is well.
        "Findings" => findings: Vec<Finding>,
        /// What work that was cut off has left, which is kept for the next try.
        "Leases" [omitempty] => leases: Vec<Lease>,
    }

    /// What work has brought that was cut off with an earlier engine.
    #[derive(Eq)]
    pub struct Lease {
        /// The work, such as `pull busybox:latest`.
        "Work" => work: String,
        /// When it was written down.
        "Noted" => noted: String,
        /// Until when its content is kept.
        "Until" [omitempty] => until: String,
        /// Layers that are there.
        "Layers" => layers: i64,
        /// Blobs that are there.
        "Blobs" => blobs: i64,
        /// Their bytes.
        "Size" => size: i64,
    }

    /// One difference between the engine's memory and the kernel or the disk.
    #[derive(Eq)]
    pub struct Finding {
        /// What kind of thing it is, such as `rules`, `bridge` or `endpoint`.
        "Kind" => kind: String,
        /// Its name.
        "Object" => object: String,
        /// What is wrong with it.
        "Problem" => problem: String,
        /// What mends it.
        "Action" => action: String,
        /// Whether it was mended.
        "Repaired" => repaired: bool,
    }
}
