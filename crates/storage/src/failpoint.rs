//! Moments of writing at which a test ends the engine as a power switch would.
//!
//! Only builds with debug assertions have them; in any other, [`reach`] is nothing. The variable
//! `GORAE_FAILPOINT` says what happens:
//!
//! - `NAME` or `NAME:N`: the process kills itself with SIGKILL when it reaches the point for the
//!   first or the N-th time;
//! - `trace=FILE`: the name of each point that is reached is added to the file, a line each.

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A moment between two steps of writing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$doc])* $variant,)+
        }

        impl Point {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name by which a test asks for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

points! {
    /// A blob's temporary file is made and empty.
    BlobBegun = "blob-begun",
    /// A blob is whole and not in its place.
    BlobWritten = "blob-written",
    /// A blob is in its place.
    BlobPlaced = "blob-placed",
    /// A layer is unpacked and not visible.
    LayerStaged = "layer-staged",
    /// A layer is visible.
    LayerPlaced = "layer-placed",
    /// All content of an image is there, and nothing knows the image.
    ImageComplete = "image-complete",
    /// An image and its names are in the database.
    ImageNoted = "image-noted",
    /// An image has lost a name in the database.
    ImageUntagged = "image-untagged",
    /// An image is no longer in the database, and its content is still there.
    ImageForgotten = "image-forgotten",
    /// A layer is moved away, to be deleted.
    LayerDetached = "layer-detached",
    /// A blob is moved away, to be deleted.
    BlobDetached = "blob-detached",
    /// All that is to go is out of sight, and some of it still takes space.
    Collected = "collected",
}

/// Says that a point is reached; only tests give that a meaning.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_: Point) {}

/// Says that a point is reached; only tests give that a meaning.
#[cfg(debug_assertions)]
pub fn reach(point: Point) {
    armed::reach(point.name());
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    enum Order {
        Nothing,
        Trace(Option<File>),
        Kill { name: String, left: AtomicU32 },
    }

    fn order() -> &'static Order {
        static ORDER: OnceLock<Order> = OnceLock::new();
        ORDER.get_or_init(|| read(&std::env::var("GORAE_FAILPOINT").unwrap_or_default()))
    }

    fn read(text: &str) -> Order {
        if text.is_empty() {
            return Order::Nothing;
        }
        if let Some(path) = text.strip_prefix("trace=") {
            let file = File::options().create(true).append(true).open(path);
            return Order::Trace(file.ok());
        }
        let (name, number) = text.split_once(':').unwrap_or((text, "1"));
        Order::Kill {
            name: name.to_owned(),
            left: AtomicU32::new(number.parse().unwrap_or(1)),
        }
    }

    pub(super) fn reach(name: &str) {
        match order() {
            Order::Nothing | Order::Trace(None) => {}
            Order::Trace(Some(file)) => {
                let mut file: &File = file;
                // a trace that cannot be written fails the test that wanted it
                let _written = file.write_all(format!("{name}\n").as_bytes());
            }
            Order::Kill { name: wanted, left } => {
                if name == wanted && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    let own = rustix::process::getpid();
                    let kill = rustix::process::Signal::KILL;
                    let _sent = rustix::process::kill_process(own, kill);
                    // the signal is on its way: nothing more is to be done before it
                    std::thread::sleep(std::time::Duration::from_secs(60));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Point;
    use std::collections::HashSet;

    #[test]
    fn names_are_plain_and_differ() {
        let names: HashSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(names.iter().all(|name| plain(name)));
    }
}
