//! What is not as the engine remembers it (`POST /gorae/system/check`).

use crate::wire::wire;

wire! {
    /// Every difference that was found.
    #[derive(Eq)]
    pub struct Report {
        /// Differences; none when all is well.
        "Findings" => findings: Vec<Finding>,
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
